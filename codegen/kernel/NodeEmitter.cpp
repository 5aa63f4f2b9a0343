//===- NodeEmitter.cpp - Loads, maps, random numbers and stores -------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===------------------------------------------------------------------------------------------------------------===//

#include "codegen/kernel/NodeEmitter.h"

#include "codegen/kernel/RandomKeys.h"
#include "ir/RetypeTensors.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "llvm/ADT/ScopeExit.h"

using namespace mlir;
using namespace moe::ir;

namespace moe::codegen {

namespace {

unsigned bytesOf(Type memory) {
  return memory.getIntOrFloatBitWidth() / 8;
}

} // namespace

NodeEmitter::NodeEmitter(ImplicitLocOpBuilder &builder, const Strategy &strategy)
    : b(builder), strategy(strategy), graph(strategy.graph), tables(strategy.graph.nodes.size()) {}

//===----------------------------------------------------------------------------------------------------------------===//
// Types and constants
//===----------------------------------------------------------------------------------------------------------------===//

Type NodeEmitter::registerType(Type element) const {
  return isa<FloatType>(element) ? b.getF32Type() : element;
}

Type NodeEmitter::memoryType(Type element) const {
  if (element.isInteger(1))
    return b.getI8Type();
  return element.isBF16() ? Type(b.getI16Type()) : element;
}

Type NodeEmitter::like(Value value, Type element) const {
  return isa<VectorType>(value.getType()) ? Type(vectorOf(element)) : element;
}

Value NodeEmitter::constant(int64_t value) {
  return arith::ConstantOp::create(b, b.getIntegerAttr(indexType(), value));
}

Value NodeEmitter::number(Type type, double value) {
  Type element = getElementTypeOrSelf(type);
  TypedAttr scalar = isa<FloatType>(element) ? TypedAttr(b.getFloatAttr(element, value))
                                             : TypedAttr(b.getIntegerAttr(element, static_cast<int64_t>(value)));
  if (auto vector = dyn_cast<VectorType>(type))
    return arith::ConstantOp::create(b, DenseElementsAttr::get(vector, Attribute(scalar)));
  return arith::ConstantOp::create(b, scalar);
}

Value NodeEmitter::laneNumbers(Type type) {
  SmallVector<Attribute> values;
  for (unsigned lane = 0; lane < strategy.lanes; ++lane)
    values.push_back(b.getIntegerAttr(type, lane));
  return arith::ConstantOp::create(b, DenseElementsAttr::get(vectorOf(type), values));
}

Value NodeEmitter::spread(Value value, const Scope &scope) {
  if (scope.vectorDim < 0 || isa<VectorType>(value.getType()))
    return value;
  return vector::BroadcastOp::create(b, vectorOf(value.getType()), value);
}

Value NodeEmitter::widen(Value integer, Type type) {
  Type target = like(integer, type);
  unsigned from = getElementTypeOrSelf(integer.getType()).getIntOrFloatBitWidth(), to = type.getIntOrFloatBitWidth();
  if (from == to)
    return integer;
  return from < to ? Value(arith::ExtSIOp::create(b, target, integer))
                   : Value(arith::TruncIOp::create(b, target, integer));
}

//===----------------------------------------------------------------------------------------------------------------===//
// Indices
//===----------------------------------------------------------------------------------------------------------------===//

bool NodeEmitter::varies(AffineExpr expr, const Scope &scope) const {
  return scope.vectorDim >= 0 && (graph.dimsOf(expr) >> scope.vectorDim & 1);
}

std::optional<int64_t> NodeEmitter::stride(AffineExpr expr, const Scope &scope) const {
  return scope.vectorDim < 0 ? std::optional<int64_t>(0) : graph.coefficient(expr, scope.vectorDim);
}

Value NodeEmitter::index(AffineExpr expr, Scope &scope) {
  if (auto constantExpr = dyn_cast<AffineConstantExpr>(expr))
    return constant(constantExpr.getValue());
  if (auto dim = dyn_cast<AffineDimExpr>(expr))
    return scope.dims[dim.getPosition()];
  if (auto symbol = dyn_cast<AffineSymbolExpr>(expr))
    return widen(node(graph.symbolNodes[symbol.getPosition()], scope), indexType());
  auto binary = cast<AffineBinaryOpExpr>(expr);
  Value lhs = index(binary.getLHS(), scope), rhs = index(binary.getRHS(), scope);
  switch (expr.getKind()) {
  case AffineExprKind::Add:
    return arith::AddIOp::create(b, lhs, rhs);
  case AffineExprKind::Mul:
    return arith::MulIOp::create(b, lhs, rhs);
  // Indices are not negative wherever their value matters (a guard is false elsewhere), so unsigned division serves.
  case AffineExprKind::FloorDiv:
    return arith::DivUIOp::create(b, lhs, rhs);
  default:
    return arith::RemUIOp::create(b, lhs, rhs);
  }
}

bool NodeEmitter::fits32(AffineExpr expr) const {
  bool fits = true;
  expr.walk([&](AffineExpr part) {
    IndexRange range = graph.space.range(part);
    fits &= range.low >= INT32_MIN && range.high <= INT32_MAX;
  });
  return fits;
}

Value NodeEmitter::laneTerm(AffineExpr expr, Type type, Scope &scope) {
  if (!varies(expr, scope))
    return spread(widen(index(expr, scope), type), scope);
  if (auto dim = dyn_cast<AffineDimExpr>(expr))
    return arith::AddIOp::create(b, spread(widen(scope.dims[dim.getPosition()], type), scope), laneNumbers(type));
  if (auto symbol = dyn_cast<AffineSymbolExpr>(expr))
    return widen(vectorNode(graph.symbolNodes[symbol.getPosition()], scope), type);
  auto binary = cast<AffineBinaryOpExpr>(expr);
  Value lhs = laneTerm(binary.getLHS(), type, scope), rhs = laneTerm(binary.getRHS(), type, scope);
  switch (expr.getKind()) {
  case AffineExprKind::Add:
    return arith::AddIOp::create(b, lhs, rhs);
  case AffineExprKind::Mul:
    return arith::MulIOp::create(b, lhs, rhs);
  case AffineExprKind::FloorDiv:
    return arith::DivUIOp::create(b, lhs, rhs);
  default:
    return arith::RemUIOp::create(b, lhs, rhs);
  }
}

Value NodeEmitter::laneIndex(AffineExpr expr, Scope &scope) {
  return laneTerm(expr, fits32(expr) ? Type(b.getI32Type()) : Type(indexType()), scope);
}

//===----------------------------------------------------------------------------------------------------------------===//
// Memory
//===----------------------------------------------------------------------------------------------------------------===//

Value NodeEmitter::pointerAt(Value base, Type type, Value index) {
  Type pointer = LLVM::LLVMPointerType::get(b.getContext());
  if (auto vector = dyn_cast<VectorType>(index.getType()))
    pointer = VectorType::get(vector.getShape(), pointer);
  return LLVM::GEPOp::create(b, pointer, type, base, ValueRange{index});
}

Value NodeEmitter::loadRaw(Type type, Value pointer, unsigned alignment) {
  return LLVM::LoadOp::create(b, type, pointer, alignment);
}

void NodeEmitter::storeRaw(Value value, Value pointer, unsigned alignment) {
  LLVM::StoreOp::create(b, value, pointer, alignment);
}

unsigned NodeEmitter::alignmentOf(Type memory) const {
  unsigned bytes = bytesOf(memory);
  return std::max(bytes, std::min(strategy.vectorAlignment, bytes * strategy.lanes));
}

Value NodeEmitter::loadLanes(Type memory, Value pointer, const Scope &scope) {
  VectorType type = vectorOf(memory);
  if (!scope.mask)
    return loadRaw(type, pointer, alignmentOf(memory));
  return LLVM::MaskedLoadOp::create(b, type, pointer, scope.mask, number(type, 0), bytesOf(memory));
}

void NodeEmitter::storeLanes(Value vector, Value pointer, const Scope &scope) {
  Type memory = getElementTypeOrSelf(vector.getType());
  if (scope.mask)
    LLVM::MaskedStoreOp::create(b, vector, pointer, scope.mask, bytesOf(memory));
  else
    storeRaw(vector, pointer, alignmentOf(memory));
}

Value NodeEmitter::partialPointer(unsigned reduction, Value position, int64_t count, unsigned bytes) {
  Value base =
      LLVM::GEPOp::create(b, scratch.getType(), b.getI8Type(), scratch,
                          ValueRange{constant(static_cast<int64_t>(reduction * strategy.partialBytes(count)))});
  return pointerAt(base, b.getIntegerType(bytes * 8), position);
}

Value NodeEmitter::fromMemory(Value value, Type element) {
  if (element.isInteger(1))
    return arith::CmpIOp::create(b, arith::CmpIPredicate::ne, value, number(value.getType(), 0));
  if (element.isBF16())
    return widenBits(value);
  if (element.isF16())
    return arith::ExtFOp::create(b, like(value, b.getF32Type()), value);
  return value;
}

Value NodeEmitter::widenBits(Value bits) {
  Type word = like(bits, b.getI32Type());
  Value wide = arith::ShLIOp::create(b, arith::ExtUIOp::create(b, word, bits), number(word, 16));
  return arith::BitcastOp::create(b, like(bits, b.getF32Type()), wide);
}

Value NodeEmitter::narrowBits(Value value) {
  if (auto cast = value.getDefiningOp<arith::BitcastOp>())
    if (auto shift = cast.getIn().getDefiningOp<arith::ShLIOp>())
      if (auto wide = shift.getLhs().getDefiningOp<arith::ExtUIOp>())
        return wide.getIn(); // what widenBits made
  Value narrow = arith::TruncFOp::create(b, like(value, b.getBF16Type()), value);
  return arith::BitcastOp::create(b, like(value, b.getI16Type()), narrow);
}

Value NodeEmitter::toMemory(Value value, Type element) {
  if (element.isInteger(1))
    return arith::ExtUIOp::create(b, like(value, b.getI8Type()), value);
  if (element.isBF16())
    return narrowBits(value);
  if (element.isF16())
    return arith::TruncFOp::create(b, like(value, b.getF16Type()), value);
  return value;
}

Value NodeEmitter::roundNarrow(Value value, Type element) {
  if (element.isF16()) {
    Value narrow = arith::TruncFOp::create(b, like(value, element), value);
    return arith::ExtFOp::create(b, value.getType(), narrow);
  }
  return element.isBF16() ? widenBits(narrowBits(value)) : value;
}

Value NodeEmitter::guardMask(NodeId guard, Scope &scope) {
  if (guard == noNode)
    return scope.mask;
  Value mask = vectorNode(guard, scope);
  return scope.mask ? Value(arith::AndIOp::create(b, mask, scope.mask)) : mask;
}

Value NodeEmitter::read(Value base, const Node &node, int64_t elements, Scope &scope) {
  Type memory = memoryType(node.type);
  unsigned alignment = bytesOf(memory);
  if (!varies(node.address, scope)) {
    Value position = index(node.address, scope);
    if (node.guard != noNode) {
      // Any element will do where the guard is false, as long as it exists.
      position = arith::MaxSIOp::create(b, position, constant(0));
      position = arith::MinSIOp::create(b, position, constant(elements - 1));
    }
    return fromMemory(loadRaw(memory, pointerAt(base, memory, position), alignment), node.type);
  }
  Value mask = guardMask(node.guard, scope);
  VectorType type = vectorOf(memory);
  if (stride(node.address, scope) == 1) {
    Value pointer = pointerAt(base, memory, index(node.address, scope));
    if (!mask)
      return fromMemory(loadRaw(type, pointer, alignmentOf(memory)), node.type);
    return fromMemory(LLVM::MaskedLoadOp::create(b, type, pointer, mask, number(type, 0), alignment), node.type);
  }
  Value positions = widen(laneIndex(node.address, scope), b.getI64Type());
  Value pointers = pointerAt(base, memory, positions);
  if (!mask)
    mask = number(vectorOf(b.getI1Type()), 1);
  return fromMemory(LLVM::masked_gather::create(b, type, pointers, mask, ValueRange{number(type, 0)}, alignment),
                    node.type);
}

Value NodeEmitter::load(const Node &node, Scope &scope) {
  FusedOp op = graph.op;
  return read(inputs[node.input], node, typeOf(op.getInputs()[node.input]).getNumElements(), scope);
}

void NodeEmitter::store(const GraphOutput &output, unsigned number, Scope &scope) {
  Type element = graph.nodes[output.node].type, memory = memoryType(element);
  unsigned alignment = bytesOf(memory);
  Value base = outputs[number];
  if (!varies(output.address, scope)) {
    Value value = toMemory(node(output.node, scope), element);
    storeRaw(value, pointerAt(base, memory, index(output.address, scope)), alignment);
    return;
  }
  Value value = toMemory(vectorNode(output.node, scope), element);
  if (stride(output.address, scope) == 1) {
    Value pointer = pointerAt(base, memory, index(output.address, scope));
    storeLanes(value, pointer, scope);
    return;
  }
  Value positions = widen(laneIndex(output.address, scope), b.getI64Type());
  Value mask = scope.mask ? scope.mask : this->number(vectorOf(b.getI1Type()), 1);
  LLVM::masked_scatter::create(b, value, pointerAt(base, memory, positions), mask, alignment);
}

//===----------------------------------------------------------------------------------------------------------------===//
// Nodes
//===----------------------------------------------------------------------------------------------------------------===//

Value NodeEmitter::node(NodeId id, Scope &scope) {
  if (auto it = scope.values.find(id); it != scope.values.end())
    return it->second;
  Value value = compute(id, scope);
  scope.values[id] = value;
  return value;
}

void NodeEmitter::hoist(ArrayRef<NodeId> roots, uint64_t available, unsigned stage, Scope &scope) {
  std::vector<bool> seen(graph.nodes.size());
  SmallVector<NodeId> pending(roots);
  SmallVector<NodeId> ready;
  while (!pending.empty()) {
    NodeId id = pending.pop_back_val();
    if (id == noNode || seen[id])
      continue;
    seen[id] = true;
    const Node &node = graph.nodes[id];
    if (!(node.dims & ~available) && node.stage <= stage) {
      ready.push_back(id);
      continue;
    }
    if (node.kind == Node::Kind::Reduce)
      continue;
    pending.append(node.operands.begin(), node.operands.end());
    pending.push_back(node.guard);
    if (node.address)
      node.address.walk([&](AffineExpr part) {
        if (auto symbol = dyn_cast<AffineSymbolExpr>(part))
          pending.push_back(graph.symbolNodes[symbol.getPosition()]);
      });
  }
  llvm::sort(ready);
  for (NodeId id : ready)
    node(id, scope);
}

Value NodeEmitter::compute(NodeId id, Scope &scope) {
  const Node &n = graph.nodes[id];
  switch (n.kind) {
  case Node::Kind::Load:
    return load(n, scope);
  case Node::Kind::Table:
    return table(n, scope);
  case Node::Kind::Index: {
    Value value = varies(n.address, scope) ? laneIndex(n.address, scope) : index(n.address, scope);
    if (isa<FloatType>(n.type))
      return arith::SIToFPOp::create(b, like(value, b.getF32Type()), value);
    return widen(value, n.type);
  }
  case Node::Kind::Splat: {
    if (auto number = dyn_cast<FloatAttr>(n.constant)) {
      APFloat value = number.getValue();
      bool exact;
      value.convert(APFloat::IEEEsingle(), APFloat::rmNearestTiesToEven, &exact);
      return arith::ConstantOp::create(b, b.getF32FloatAttr(value.convertToFloat()));
    }
    return arith::ConstantOp::create(b, cast<IntegerAttr>(n.constant));
  }
  case Node::Kind::Map:
    return map(n, scope);
  case Node::Kind::Random:
    return keptRandom(id, scope);
  case Node::Kind::Choose: {
    Value condition = node(n.operands[0], scope), yes = node(n.operands[1], scope), no = node(n.operands[2], scope);
    if (isa<VectorType>(condition.getType()) || isa<VectorType>(yes.getType()) || isa<VectorType>(no.getType())) {
      yes = spread(yes, scope);
      no = spread(no, scope);
    }
    return arith::SelectOp::create(b, condition, yes, no);
  }
  case Node::Kind::InRange:
  case Node::Kind::Divides:
    return bound(n, scope);
  case Node::Kind::RowExists: {
    // One unsigned comparison: negative numbers are large.
    Value value = node(n.operands[0], scope);
    return arith::CmpIOp::create(b, arith::CmpIPredicate::ult, value, number(value.getType(), n.high));
  }
  case Node::Kind::And: {
    Value lhs = node(n.operands[0], scope), rhs = node(n.operands[1], scope);
    if (lhs.getType() != rhs.getType()) {
      lhs = spread(lhs, scope);
      rhs = spread(rhs, scope);
    }
    return arith::AndIOp::create(b, lhs, rhs);
  }
  case Node::Kind::Reduce:
    break;
  }
  llvm_unreachable("the loops compute reductions before anything reads them");
}

Value NodeEmitter::bound(const Node &n, Scope &scope) {
  Value value = varies(n.address, scope) ? laneIndex(n.address, scope) : index(n.address, scope);
  if (n.kind == Node::Kind::Divides) {
    Value rest = arith::RemUIOp::create(b, value, number(value.getType(), static_cast<double>(n.high)));
    return arith::CmpIOp::create(b, arith::CmpIPredicate::eq, rest, number(value.getType(), 0));
  }
  IndexRange range = graph.space.range(n.address);
  Value result;
  if (range.low < n.low)
    result =
        arith::CmpIOp::create(b, arith::CmpIPredicate::sge, value, number(value.getType(), static_cast<double>(n.low)));
  if (range.high >= n.high) {
    Value below = arith::CmpIOp::create(b, arith::CmpIPredicate::slt, value,
                                        number(value.getType(), static_cast<double>(n.high)));
    result = result ? Value(arith::AndIOp::create(b, result, below)) : below;
  }
  return result;
}

Value NodeEmitter::map(const Node &n, Scope &scope) {
  SmallVector<Value> operands;
  bool anyVector = false;
  for (NodeId operand : n.operands) {
    operands.push_back(node(operand, scope));
    anyVector |= isa<VectorType>(operands.back().getType());
  }
  if (anyVector)
    for (Value &operand : operands)
      operand = spread(operand, scope);
  // Lanes that do not exist hold zeros, which integer division must not see.
  if (isa<DivOp>(n.op) && isa<IntegerType>(n.type)) {
    Value zero = number(operands[1].getType(), 0), one = number(operands[1].getType(), 1);
    Value isZero = arith::CmpIOp::create(b, arith::CmpIPredicate::eq, operands[1], zero);
    operands[1] = arith::SelectOp::create(b, isZero, one, operands[1]);
  }
  Value result = cast<ElementwiseOpInterface>(n.op).buildScalar(b, operands);
  return isa<CastOp>(n.op) ? roundNarrow(result, n.type) : result;
}

Value NodeEmitter::table(const Node &n, Scope &scope) {
  auto elements = cast<DenseElementsAttr>(n.constant);
  Type memory = memoryType(n.type);
  NodeId id = static_cast<NodeId>(&n - graph.nodes.data());
  auto function = b.getInsertionBlock()->getParent()->getParentOfType<LLVM::LLVMFuncOp>();
  std::string name = (function.getName() + "_table" + Twine(id)).str();
  auto module = function->getParentOfType<ModuleOp>();
  if (!module.lookupSymbol(name)) {
    // Booleans become bytes, bfloat16 its bits.
    DenseElementsAttr stored = elements;
    if (n.type.isInteger(1))
      stored = elements.mapValues(memory, [](const APInt &value) { return value.zext(8); });
    else if (n.type.isBF16())
      stored = elements.mapValues(memory, [](const APFloat &value) { return value.bitcastToAPInt(); });
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(module.getBody());
    auto flat = RankedTensorType::get({stored.getNumElements()}, memory);
    LLVM::GlobalOp::create(b, LLVM::LLVMArrayType::get(memory, stored.getNumElements()), /*isConstant=*/true,
                           LLVM::Linkage::Internal, name, stored.reshape(flat), /*alignment=*/64);
  }
  Value base = LLVM::AddressOfOp::create(b, LLVM::LLVMPointerType::get(b.getContext()), name);
  return read(base, n, elements.getNumElements(), scope);
}

std::pair<Value, Value> NodeEmitter::multiplyWide(Value word, uint32_t factor) {
  auto vector = dyn_cast<VectorType>(word.getType());
  if (!vector || strategy.scalarProducts) {
    auto product = arith::MulUIExtendedOp::create(
        b, word, number(word.getType(), static_cast<double>(static_cast<int32_t>(factor))));
    return {product.getHigh(), product.getLow()};
  }
  // Vector units multiply the even words of 64-bit lanes: even and odd words apart, without moving words across lanes.
  VectorType wide = VectorType::get({strategy.lanes / 2}, b.getI64Type());
  auto splat = [&](uint64_t value) {
    return arith::ConstantOp::create(
        b, DenseElementsAttr::get(wide, Attribute(b.getI64IntegerAttr(static_cast<int64_t>(value)))));
  };
  Value both = vector::BitCastOp::create(b, wide, word), multiplier = splat(factor);
  Value even = arith::MulIOp::create(b, arith::AndIOp::create(b, both, splat(0xFFFFFFFF)), multiplier);
  Value odd = arith::MulIOp::create(b, arith::ShRUIOp::create(b, both, splat(32)), multiplier);
  // Words are picked by shuffles: LLVM would fold a shift into the multiplication, which then is a slow one.
  Value evenWords = vector::BitCastOp::create(b, vector, even), oddWords = vector::BitCastOp::create(b, vector, odd);
  SmallVector<int64_t> highs, lows;
  for (unsigned lane = 0; lane < strategy.lanes; lane += 2) {
    lows.append({lane, strategy.lanes + lane});
    highs.append({lane + 1, strategy.lanes + lane + 1});
  }
  return {vector::ShuffleOp::create(b, evenWords, oddWords, highs),
          vector::ShuffleOp::create(b, evenWords, oddWords, lows)};
}

/// Philox4x32-10 as in the description of random_uniform.
Value NodeEmitter::keptRandom(NodeId id, Scope &scope) {
  const Node &n = graph.nodes[id];
  auto memory = kept.find(id);
  if (memory == kept.end() || !varies(n.address, scope))
    return random(n, scope);
  Value pointer = pointerAt(memory->second, b.getF32Type(), scope.dims[scope.vectorDim]);
  if (filled.contains(id))
    return loadRaw(vectorOf(b.getF32Type()), pointer, 4);
  Value value = random(n, scope);
  storeRaw(value, pointer, 4); // lanes beyond the row have room
  filling.insert(id);
  return value;
}

Value NodeEmitter::random(const Node &n, Scope &scope) {
  auto op = cast<RandomUniformOp>(n.op);
  Type i64 = b.getI64Type(), i32 = b.getI32Type();
  Value updates = widen(node(n.operands[0], scope), i64), batch = widen(node(n.operands[1], scope), i64);
  int64_t count = typeOf(op.getResult()).getNumElements();
  if (auto whole = op->getAttrOfType<DenseI64ArrayAttr>(kWholeShapeAttr))
    count = ShapedType::getNumElements(whole.asArrayRef());
  Value elements = arith::ConstantOp::create(b, b.getI64IntegerAttr(count));
  Value base = arith::MulIOp::create(b, batch, elements);
  // Of a part of a tensor: where it starts.
  if (n.operands.size() > 2)
    base = arith::AddIOp::create(b, base, widen(node(n.operands[2], scope), i64));
  bool isVector = varies(n.address, scope);
  Value position = widen(isVector ? laneIndex(n.address, scope) : index(n.address, scope), i64);
  if (isVector || isa<VectorType>(base.getType())) {
    base = spread(base, scope);
    position = spread(position, scope);
    updates = spread(updates, scope);
  }
  Value global = arith::AddIOp::create(b, base, position);
  Type word = like(global, i32);
  auto word32 = [&](uint32_t value) { return number(word, static_cast<double>(static_cast<int32_t>(value))); };
  Value counter[4] = {widen(global, i32), widen(arith::ShRUIOp::create(b, global, number(global.getType(), 32)), i32),
                      widen(updates, i32), word32(0)};
  Value key = numbers[keyNumber(op, strategy.plan.numbers)];
  Value low = widen(key, i32);
  Value high = widen(arith::ShRUIOp::create(b, key, number(i64, 32)), i32);
  for (uint32_t round = 0; round < 10; ++round) {
    // Keys are scalars, moved to lanes round by round: what does not vary is computed once.
    auto roundKey = [&](Value half, uint32_t step) -> Value {
      Value word = arith::AddIOp::create(b, half, number(i32, static_cast<double>(static_cast<int32_t>(round * step))));
      return isa<VectorType>(counter[0].getType()) ? spread(word, scope) : word;
    };
    Value key0 = roundKey(low, 0x9E3779B9), key1 = roundKey(high, 0xBB67AE85);
    auto [high0, low0] = multiplyWide(counter[0], 0xD2511F53);
    auto [high1, low1] = multiplyWide(counter[2], 0xCD9E8D57);
    counter[0] = arith::XOrIOp::create(b, arith::XOrIOp::create(b, high1, counter[1]), key0);
    counter[2] = arith::XOrIOp::create(b, arith::XOrIOp::create(b, high0, counter[3]), key1);
    counter[1] = low1;
    counter[3] = low0;
  }
  Value top = arith::ShRUIOp::create(b, counter[0], number(word, 8));
  Value exact = arith::SIToFPOp::create(b, like(top, b.getF32Type()), top);
  return arith::MulFOp::create(b, exact, number(exact.getType(), 0x1p-24));
}

//===----------------------------------------------------------------------------------------------------------------===//
// Reductions
//===----------------------------------------------------------------------------------------------------------------===//

Value NodeEmitter::identity(const Node &reduce, bool vector) {
  Type element = registerType(reduce.type), type = vector ? Type(vectorOf(element)) : element;
  ReduceKind kind = cast<ReduceOp>(reduce.op).getKind();
  if (kind == ReduceKind::Sum)
    return number(type, 0);
  bool max = kind == ReduceKind::Max;
  if (isa<FloatType>(element))
    return number(type, max ? -std::numeric_limits<double>::infinity() : std::numeric_limits<double>::infinity());
  unsigned width = element.getIntOrFloatBitWidth();
  // Booleans order false before true.
  APInt value = width == 1 ? APInt(1, max ? 0 : 1)
                : max      ? APInt::getSignedMinValue(width)
                           : APInt::getSignedMaxValue(width);
  TypedAttr scalar = b.getIntegerAttr(element, value);
  if (vector)
    return arith::ConstantOp::create(b, DenseElementsAttr::get(cast<ShapedType>(type), Attribute(scalar)));
  return arith::ConstantOp::create(b, scalar);
}

Value NodeEmitter::combine(const Node &reduce, Value lhs, Value rhs) {
  ReduceKind kind = cast<ReduceOp>(reduce.op).getKind();
  if (isa<FloatType>(reduce.type)) {
    if (kind == ReduceKind::Sum)
      return arith::AddFOp::create(b, lhs, rhs);
    return kind == ReduceKind::Max ? Value(arith::MaximumFOp::create(b, lhs, rhs))
                                   : Value(arith::MinimumFOp::create(b, lhs, rhs));
  }
  if (kind == ReduceKind::Sum)
    return arith::AddIOp::create(b, lhs, rhs);
  bool max = kind == ReduceKind::Max;
  if (reduce.type.isInteger(1))
    return max ? Value(arith::OrIOp::create(b, lhs, rhs)) : Value(arith::AndIOp::create(b, lhs, rhs));
  return max ? Value(arith::MaxSIOp::create(b, lhs, rhs)) : Value(arith::MinSIOp::create(b, lhs, rhs));
}

Value NodeEmitter::combineLanes(const Node &reduce, Value vector) {
  for (unsigned half = strategy.lanes / 2; half >= 1; half /= 2) {
    SmallVector<int64_t> low, high;
    for (unsigned lane = 0; lane < half; ++lane) {
      low.push_back(lane);
      high.push_back(lane + half);
    }
    Value lower = vector::ShuffleOp::create(b, vector, vector, low);
    Value upper = vector::ShuffleOp::create(b, vector, vector, high);
    vector = combine(reduce, lower, upper);
  }
  return vector::ExtractOp::create(b, vector, ArrayRef<int64_t>{0});
}

} // namespace moe::codegen
