// Levels of instructions: what is compiled for each, and which of them the machine has.
#pragma once

#define KEPTON_AT_EACH_LEVEL(declaration) \
  namespace plain { declaration }         \
  namespace avx2 { declaration }          \
  namespace avx512 { declaration }

#if defined(__x86_64__)
#define KEPTON_AT_BEST_LEVEL(call)                                                        \
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&          \
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw"))           \
    return avx512::call;                                                                  \
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return avx2::call; \
  return plain::call;
#else
#define KEPTON_AT_BEST_LEVEL(call) return plain::call;
#endif
