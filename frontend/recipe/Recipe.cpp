//===- Recipe.cpp - Reading recipes -------------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "frontend/recipe/Recipe.h"
#include "frontend/recipe/RecipeNames.h"
#include "frontend/recipe/YamlTree.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/MemoryBuffer.h"
#include <cmath>
#include <functional>
#include <limits>

namespace moe::frontend {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// Collects the errors of one recipe.
class Reader {
public:
  explicit Reader(std::vector<Diagnostic> &diagnostics) : diagnostics(diagnostics) {}

  void fail(const YamlNode &node, std::string what, std::string why = "", std::string remedy = "") {
    diagnostics.push_back({std::move(what), node.place, std::move(why), std::move(remedy)});
  }

  /// A number in [low, high], or in [low, high) if `open`.
  void read(const YamlNode &node, const std::string &key, double &value, double low, double high, bool open = false) {
    double number = 0.0;
    if (node.kind != YamlNode::Kind::Scalar || llvm::StringRef(node.scalar).trim().getAsDouble(number) ||
        !std::isfinite(number))
      return fail(node, "the value of '" + key + "' must be a number" + found(node));
    if (number < low || number > high || (open && number == high))
      return fail(node, "the value of '" + key + "' is out of range",
                  "it must lie between " + text(low) + " and " + text(high) + (open ? ", below the latter" : ""));
    value = number;
  }

  void read(const YamlNode &node, const std::string &key, int64_t &value, int64_t low) {
    int64_t number = 0;
    if (node.kind != YamlNode::Kind::Scalar || llvm::StringRef(node.scalar).trim().getAsInteger(10, number))
      return fail(node, "the value of '" + key + "' must be an integer" + found(node));
    if (number < low)
      return fail(node, "the value of '" + key + "' must be at least " + std::to_string(low));
    value = number;
  }

  void read(const YamlNode &node, const std::string &key, std::string &value) {
    if (node.kind != YamlNode::Kind::Scalar || node.scalar.empty())
      return fail(node, "the value of '" + key + "' must be a name" + found(node));
    value = node.scalar;
  }

  void read(const YamlNode &node, const std::string &key, std::vector<std::string> &values) {
    if (node.kind != YamlNode::Kind::List)
      return fail(node, "the value of '" + key + "' must be a list" + found(node));
    values.clear();
    for (const YamlNode &item : node.items)
      read(item, key, values.emplace_back());
  }

  /// One of the names of an enumeration.
  template <typename Enum> void readName(const YamlNode &node, const std::string &key, Enum &value) {
    std::string word = node.kind == YamlNode::Kind::Scalar ? node.scalar : "";
    for (const auto &entry : names<Enum>())
      if (word == entry.name) {
        value = entry.value;
        return;
      }
    std::vector<std::string> valid;
    for (const auto &entry : names<Enum>())
      valid.push_back(entry.name);
    fail(node, "'" + word + "' is no valid value of '" + key + "'", "valid are " + llvm::join(valid, ", "),
         suggestion(word, valid));
  }

  using Handlers = std::vector<std::pair<std::string, std::function<void(const YamlNode &)>>>;

  /// Calls the handler of each key of a map; unknown keys are errors.
  void readMap(const YamlNode &node, const std::string &prefix, const Handlers &handlers) {
    if (node.kind == YamlNode::Kind::Null)
      return;
    if (node.kind != YamlNode::Kind::Map)
      return fail(node, prefix.empty() ? "a recipe must consist of keys and values"
                                       : "the value of '" + prefix + "' must consist of keys and values");
    for (size_t i = 0; i < node.keys.size(); ++i) {
      const std::string &key = node.keys[i];
      const YamlNode &value = node.items[i];
      auto handler = llvm::find_if(handlers, [&](const auto &entry) { return entry.first == key; });
      if (handler != handlers.end()) {
        handler->second(value);
        continue;
      }
      std::vector<std::string> valid;
      for (const auto &entry : handlers)
        valid.push_back(entry.first);
      std::string place = prefix;
      place.append(prefix.empty() ? "" : ".").append(key);
      fail(value, "unknown key '" + place + "'", "valid keys here are " + llvm::join(valid, ", "),
           place == "data" ? "a plan is for any data: say which to `moerun train PLAN --data FILE`"
                           : suggestion(key, valid));
    }
  }

private:
  static std::string text(double value) { return value == kInfinity ? "infinity" : llvm::formatv("{0}", value).str(); }

  static std::string found(const YamlNode &node) {
    return node.kind == YamlNode::Kind::Scalar ? ", found '" + node.scalar + "'" : "";
  }

  std::vector<Diagnostic> &diagnostics;
};

void readLoss(Reader &r, const YamlNode &node, Loss &loss) {
  auto crossEntropy = [&](const YamlNode &map) {
    Loss::CrossEntropy &entropy = loss.crossEntropy.emplace();
    r.readMap(map, "loss.cross_entropy",
              {{"logits", [&](const YamlNode &v) { r.read(v, "loss.cross_entropy.logits", entropy.logits); }},
               {"labels", [&](const YamlNode &v) { r.read(v, "loss.cross_entropy.labels", entropy.labels); }},
               {"ignore_index",
                [&](const YamlNode &v) {
                  r.read(v, "loss.cross_entropy.ignore_index", entropy.ignoreIndex,
                         std::numeric_limits<int64_t>::min());
                }},
               {"label_smoothing", [&](const YamlNode &v) {
                  r.read(v, "loss.cross_entropy.label_smoothing", entropy.labelSmoothing, 0.0, 1.0, /*open=*/true);
                }}});
  };
  r.readMap(
      node, "loss",
      {{"output", [&](const YamlNode &v) { r.read(v, "loss.output", loss.output); }}, {"cross_entropy", crossEntropy}});
  if (node.find("output") && node.find("cross_entropy"))
    r.fail(node, "the keys 'loss.output' and 'loss.cross_entropy' exclude each other", "", "keep one of them");
}

void readOptimizer(Reader &r, const YamlNode &node, Optimizer &o) {
  auto betas = [&](const YamlNode &v) {
    if (v.kind != YamlNode::Kind::List || v.items.size() != 2)
      return r.fail(v, "the value of 'optimizer.betas' must be a list of two numbers");
    r.read(v.items[0], "optimizer.betas", o.beta1, 0.0, 1.0, /*open=*/true);
    r.read(v.items[1], "optimizer.betas", o.beta2, 0.0, 1.0, /*open=*/true);
  };
  auto number = [&](const char *key, double &value, double high, bool open) {
    return [&r, key, &value, high, open](const YamlNode &v) {
      r.read(v, std::string("optimizer.") + key, value, 0.0, high, open);
    };
  };
  // Only AdamW decays by default, as everywhere else.
  if (const YamlNode *name = node.find("name"); name && name->scalar != "adamw")
    o.weightDecay = 0.0;
  r.readMap(node, "optimizer",
            {{"name", [&](const YamlNode &v) { r.readName(v, "optimizer.name", o.name); }},
             {"lr", number("lr", o.lr, kInfinity, false)},
             {"betas", betas},
             {"eps", number("eps", o.eps, kInfinity, false)},
             {"weight_decay", number("weight_decay", o.weightDecay, kInfinity, false)},
             {"momentum", number("momentum", o.momentum, 1.0, true)}});
  if (o.momentum != 0.0 && o.name != OptimizerName::Sgd)
    r.fail(node, "the key 'optimizer.momentum' is for sgd", "the others have betas", "remove it");
}

void readSchedule(Reader &r, const YamlNode &node, Schedule &s) {
  r.readMap(node, "schedule",
            {{"name", [&](const YamlNode &v) { r.readName(v, "schedule.name", s.name); }},
             {"warmup_updates", [&](const YamlNode &v) { r.read(v, "schedule.warmup_updates", s.warmupUpdates, 0); }},
             {"total_updates", [&](const YamlNode &v) { r.read(v, "schedule.total_updates", s.totalUpdates, 0); }},
             {"power", [&](const YamlNode &v) { r.read(v, "schedule.power", s.power, 0.0, kInfinity); }},
             {"end_lr", [&](const YamlNode &v) { r.read(v, "schedule.end_lr", s.endLr, 0.0, kInfinity); }},
             {"decay_updates", [&](const YamlNode &v) { r.read(v, "schedule.decay_updates", s.decayUpdates, 1); }},
             {"decay", [&](const YamlNode &v) { r.readName(v, "schedule.decay", s.decay); }}});
  const bool wsd = s.name == ScheduleName::WarmupStableDecay;
  if (wsd && (s.decayUpdates == 0 || s.totalUpdates < s.warmupUpdates + s.decayUpdates))
    r.fail(node, "the schedule wsd needs 'schedule.decay_updates', and total_updates of at least warm-up and decay",
           "its rate is lr after the warm-up and falls in the last decay_updates of total_updates",
           "set schedule.decay_updates and schedule.total_updates");
  else if (!wsd && (node.find("decay_updates") || node.find("decay")))
    r.fail(node, "the keys 'schedule.decay_updates' and 'schedule.decay' are for wsd",
           std::string("the schedule is ") + name(s.name), "remove them, or choose wsd");
  if (const YamlNode *word = node.find("name"); word && word->scalar == "linear" && s.power != 1.0)
    r.fail(node, "the schedule linear has no other power than 1", "", "call it polynomial_decay");
  const bool needsTotal = s.name == ScheduleName::PolynomialDecay || s.name == ScheduleName::Cosine;
  if (needsTotal && s.totalUpdates <= s.warmupUpdates)
    r.fail(node, std::string("the schedule ") + name(s.name) + " needs 'schedule.total_updates' above warmup_updates",
           "its rate decays until then", "set schedule.total_updates");
  if (s.name == ScheduleName::InverseSqrt && s.warmupUpdates == 0)
    r.fail(node, "the schedule inverse_sqrt needs 'schedule.warmup_updates' of at least 1",
           "its rate is lr sqrt(warmup / updates)", "set schedule.warmup_updates");
}

void readTies(Reader &r, const YamlNode &node, std::vector<Tie> &ties) {
  constexpr const char *kForm = "the form is tie: [[a, b], [c, d^T]]";
  if (node.kind != YamlNode::Kind::List)
    return r.fail(node, "the value of 'tie' must be a list of pairs of names", kForm);
  for (const YamlNode &item : node.items) {
    if (item.kind != YamlNode::Kind::List || item.items.size() != 2) {
      r.fail(item, "an entry of 'tie' must be a pair of names", kForm);
      continue;
    }
    Tie &tie = ties.emplace_back();
    r.read(item.items[0], "tie", tie.source);
    r.read(item.items[1], "tie", tie.target);
    llvm::StringRef target = tie.target;
    tie.transposed = target.consume_back("^T");
    tie.target = target.str();
    if (tie.source == tie.target)
      r.fail(item, "'" + tie.source + "' is tied to itself");
    for (const Tie &other : llvm::ArrayRef<Tie>(ties).drop_back())
      if (other.target == tie.target || other.target == tie.source || other.source == tie.target)
        r.fail(item, "'" + tie.target + "' is tied in two ways", "every tie names its source and one other tensor",
               "name the same source in all pairs");
  }
}

void readParameters(Reader &r, const YamlNode &node, ParameterPolicy &p) {
  r.readMap(node, "parameters",
            {{"default", [&](const YamlNode &v) { r.readName(v, "parameters.default", p.standard); }},
             {"train", [&](const YamlNode &v) { r.read(v, "parameters.train", p.train); }},
             {"freeze", [&](const YamlNode &v) { r.read(v, "parameters.freeze", p.freeze); }}});
}

void readPrecision(Reader &r, const YamlNode &node, Precision &p) {
  auto reduce = [&](const YamlNode &v) {
    ComputeType type = ComputeType::F32;
    r.readName(v, "precision.reduce", type);
    if (type == ComputeType::F16)
      r.fail(v, "gradients cannot be reduced in f16", "", "use f32 or bf16");
    p.reduceBf16 = type == ComputeType::BF16;
  };
  r.readMap(
      node, "precision",
      {{"compute", [&](const YamlNode &v) { r.readName(v, "precision.compute", p.compute); }}, {"reduce", reduce}});
}

void readRecipe(Reader &r, const YamlNode &root, Recipe &recipe) {
  r.readMap(root, "",
            {{"loss", [&](const YamlNode &v) { readLoss(r, v, recipe.loss); }},
             {"optimizer", [&](const YamlNode &v) { readOptimizer(r, v, recipe.optimizer); }},
             {"clip_norm", [&](const YamlNode &v) { r.read(v, "clip_norm", recipe.clipNorm, 0.0, kInfinity); }},
             {"schedule", [&](const YamlNode &v) { readSchedule(r, v, recipe.schedule); }},
             {"precision", [&](const YamlNode &v) { readPrecision(r, v, recipe.precision); }},
             {"accumulate", [&](const YamlNode &v) { r.read(v, "accumulate", recipe.accumulate, 1); }},
             {"parameters", [&](const YamlNode &v) { readParameters(r, v, recipe.parameters); }},
             {"tie", [&](const YamlNode &v) { readTies(r, v, recipe.tie); }},
             {"routing_groups", [&](const YamlNode &v) { r.read(v, "routing_groups", recipe.routingGroups, 0); }},
             {"seed", [&](const YamlNode &v) { r.read(v, "seed", recipe.seed, 0); }}});
}

} // namespace

std::string suggestion(llvm::StringRef word, llvm::ArrayRef<std::string> valid) {
  const std::string *best = nullptr;
  unsigned bestDistance = std::numeric_limits<unsigned>::max();
  for (const std::string &candidate : valid)
    if (unsigned distance = word.edit_distance(candidate); distance < bestDistance) {
      best = &candidate;
      bestDistance = distance;
    }
  return best ? "did you mean '" + *best + "'?" : "";
}

std::optional<Recipe> parseRecipe(const std::string &text, const std::string &name,
                                  const std::vector<std::string> &overrides, std::vector<Diagnostic> &diagnostics) {
  const size_t before = diagnostics.size();
  Expected<YamlNode> root = parseYaml(text, name);
  if (!root) {
    diagnostics.push_back(root.error());
    return std::nullopt;
  }
  for (const std::string &text : overrides)
    if (Status status = applyOverride(*root, text); !status)
      diagnostics.push_back(status.error());
  Recipe recipe;
  Reader reader(diagnostics);
  readRecipe(reader, *root, recipe);
  if (diagnostics.size() > before)
    return std::nullopt;
  return recipe;
}

std::optional<Recipe> readRecipe(const std::string &path, const std::vector<std::string> &overrides,
                                 std::vector<Diagnostic> &diagnostics) {
  if (path.empty())
    return parseRecipe("", "recipe", overrides, diagnostics);
  auto buffer = llvm::MemoryBuffer::getFile(path);
  if (!buffer) {
    diagnostics.push_back({"cannot read the recipe", path, buffer.getError().message(), "check the path"});
    return std::nullopt;
  }
  return parseRecipe((*buffer)->getBuffer().str(), path, overrides, diagnostics);
}

} // namespace moe::frontend
