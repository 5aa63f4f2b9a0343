//===- CpuFeatures.cpp - Does this CPU have what a plan needs? ----------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/cpu/CpuFeatures.h"

#include <cstdint>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace moe::cpu {

#if defined(__x86_64__)
namespace {

enum Register : uint8_t { Eax, Ebx, Ecx, Edx };
/// Which registers the operating system has to save for a feature, as bits of XCR0.
enum State : uint32_t { Plain = 0, Avx = 0x6, Avx512 = 0xe6, Amx = 0x60000 };

/// Where CPUID says it (Intel SDM volume 2A, "CPUID"; AMD APM volume 3, appendix E).
struct Feature {
  std::string_view name;
  uint32_t leaf;
  uint32_t subleaf;
  Register reg;
  uint8_t bit;
  State state;
};

constexpr Feature kFeatures[] = {
    {"sse3", 1, 0, Ecx, 0, Plain},
    {"pclmul", 1, 0, Ecx, 1, Plain},
    {"ssse3", 1, 0, Ecx, 9, Plain},
    {"fma", 1, 0, Ecx, 12, Avx},
    {"cx16", 1, 0, Ecx, 13, Plain},
    {"sse4.1", 1, 0, Ecx, 19, Plain},
    {"sse4.2", 1, 0, Ecx, 20, Plain},
    {"crc32", 1, 0, Ecx, 20, Plain},
    {"movbe", 1, 0, Ecx, 22, Plain},
    {"popcnt", 1, 0, Ecx, 23, Plain},
    {"aes", 1, 0, Ecx, 25, Plain},
    {"xsave", 1, 0, Ecx, 27, Plain}, // OSXSAVE: enabled, not merely present
    {"avx", 1, 0, Ecx, 28, Avx},
    {"f16c", 1, 0, Ecx, 29, Avx},
    {"rdrnd", 1, 0, Ecx, 30, Plain},
    {"cx8", 1, 0, Edx, 8, Plain},
    {"cmov", 1, 0, Edx, 15, Plain},
    {"mmx", 1, 0, Edx, 23, Plain},
    {"fxsr", 1, 0, Edx, 24, Plain},
    {"sse", 1, 0, Edx, 25, Plain},
    {"sse2", 1, 0, Edx, 26, Plain},
    {"fsgsbase", 7, 0, Ebx, 0, Plain},
    {"sgx", 7, 0, Ebx, 2, Plain},
    {"bmi", 7, 0, Ebx, 3, Plain},
    {"avx2", 7, 0, Ebx, 5, Avx},
    {"bmi2", 7, 0, Ebx, 8, Plain},
    {"invpcid", 7, 0, Ebx, 10, Plain},
    {"rtm", 7, 0, Ebx, 11, Plain},
    {"avx512f", 7, 0, Ebx, 16, Avx512},
    {"avx512dq", 7, 0, Ebx, 17, Avx512},
    {"rdseed", 7, 0, Ebx, 18, Plain},
    {"adx", 7, 0, Ebx, 19, Plain},
    {"avx512ifma", 7, 0, Ebx, 21, Avx512},
    {"clflushopt", 7, 0, Ebx, 23, Plain},
    {"clwb", 7, 0, Ebx, 24, Plain},
    {"avx512cd", 7, 0, Ebx, 28, Avx512},
    {"sha", 7, 0, Ebx, 29, Plain},
    {"avx512bw", 7, 0, Ebx, 30, Avx512},
    {"avx512vl", 7, 0, Ebx, 31, Avx512},
    {"avx512vbmi", 7, 0, Ecx, 1, Avx512},
    {"pku", 7, 0, Ecx, 4, Plain}, // OSPKE
    {"waitpkg", 7, 0, Ecx, 5, Plain},
    {"avx512vbmi2", 7, 0, Ecx, 6, Avx512},
    {"shstk", 7, 0, Ecx, 7, Plain},
    {"gfni", 7, 0, Ecx, 8, Plain},
    {"vaes", 7, 0, Ecx, 9, Avx},
    {"vpclmulqdq", 7, 0, Ecx, 10, Avx},
    {"avx512vnni", 7, 0, Ecx, 11, Avx512},
    {"avx512bitalg", 7, 0, Ecx, 12, Avx512},
    {"avx512vpopcntdq", 7, 0, Ecx, 14, Avx512},
    {"rdpid", 7, 0, Ecx, 22, Plain},
    {"cldemote", 7, 0, Ecx, 25, Plain},
    {"movdiri", 7, 0, Ecx, 27, Plain},
    {"movdir64b", 7, 0, Ecx, 28, Plain},
    {"enqcmd", 7, 0, Ecx, 29, Plain},
    {"uintr", 7, 0, Edx, 5, Plain},
    {"avx512vp2intersect", 7, 0, Edx, 8, Avx512},
    {"serialize", 7, 0, Edx, 14, Plain},
    {"tsxldtrk", 7, 0, Edx, 16, Plain},
    {"pconfig", 7, 0, Edx, 18, Plain},
    {"amx-bf16", 7, 0, Edx, 22, Amx},
    {"avx512fp16", 7, 0, Edx, 23, Avx512},
    {"amx-tile", 7, 0, Edx, 24, Amx},
    {"amx-int8", 7, 0, Edx, 25, Amx},
    {"sha512", 7, 1, Eax, 0, Avx},
    {"sm3", 7, 1, Eax, 1, Avx},
    {"sm4", 7, 1, Eax, 2, Avx},
    {"raoint", 7, 1, Eax, 3, Plain},
    {"avxvnni", 7, 1, Eax, 4, Avx},
    {"avx512bf16", 7, 1, Eax, 5, Avx512},
    {"cmpccxadd", 7, 1, Eax, 7, Plain},
    {"amx-fp16", 7, 1, Eax, 21, Amx},
    {"hreset", 7, 1, Eax, 22, Plain},
    {"avxifma", 7, 1, Eax, 23, Avx},
    {"avxvnniint8", 7, 1, Edx, 4, Avx},
    {"avxneconvert", 7, 1, Edx, 5, Avx},
    {"amx-complex", 7, 1, Edx, 8, Amx},
    {"avxvnniint16", 7, 1, Edx, 10, Avx},
    {"prefetchi", 7, 1, Edx, 14, Plain},
    {"xsaveopt", 0xd, 1, Eax, 0, Plain},
    {"xsavec", 0xd, 1, Eax, 1, Plain},
    {"xsaves", 0xd, 1, Eax, 3, Plain},
    {"ptwrite", 0x14, 0, Ebx, 4, Plain},
    {"sahf", 0x80000001, 0, Ecx, 0, Plain},
    {"lzcnt", 0x80000001, 0, Ecx, 5, Plain},
    {"sse4a", 0x80000001, 0, Ecx, 6, Plain},
    {"prfchw", 0x80000001, 0, Ecx, 8, Plain},
    {"xop", 0x80000001, 0, Ecx, 11, Avx},
    {"lwp", 0x80000001, 0, Ecx, 15, Plain},
    {"fma4", 0x80000001, 0, Ecx, 16, Avx},
    {"tbm", 0x80000001, 0, Ecx, 21, Plain},
    {"mwaitx", 0x80000001, 0, Ecx, 29, Plain},
    {"64bit", 0x80000001, 0, Edx, 29, Plain},
    {"clzero", 0x80000008, 0, Ebx, 0, Plain},
    {"rdpru", 0x80000008, 0, Ebx, 4, Plain},
    {"wbnoinvd", 0x80000008, 0, Ebx, 9, Plain},
};

/// XCR0: which registers the operating system saves. 0 if it does not use XSAVE.
uint32_t savedState() {
  uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) || !(ecx & (1u << 27)))
    return 0;
  asm("xgetbv" : "=a"(eax), "=d"(edx) : "c"(0));
  return eax;
}

} // namespace

Support cpuSupports(std::string_view name) {
  for (const Feature &feature : kFeatures) {
    if (feature.name != name)
      continue;
    if ((savedState() & feature.state) != feature.state)
      return Support::No;
    uint32_t registers[4] = {};
    if (!__get_cpuid_count(feature.leaf, feature.subleaf, &registers[Eax], &registers[Ebx], &registers[Ecx],
                           &registers[Edx]))
      return Support::No;
    return (registers[feature.reg] >> feature.bit) & 1 ? Support::Yes : Support::No;
  }
  return Support::Unknown;
}

std::vector<std::string_view> cpuFeatures() {
  std::vector<std::string_view> names;
  for (const Feature &feature : kFeatures)
    if (cpuSupports(feature.name) == Support::Yes)
      names.push_back(feature.name);
  return names;
}

#else

Support cpuSupports(std::string_view) {
  return Support::Unknown;
}

std::vector<std::string_view> cpuFeatures() {
  return {};
}

#endif

} // namespace moe::cpu
