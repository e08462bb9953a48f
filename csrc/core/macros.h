// The few compiler-dependent words of the code base; everything else is plain C++20.
//
// FL_HOST_DEVICE     a function that CPU loops and CUDA kernels share
// FL_NO_UNROLL       before a loop that nvcc shall keep short: four copies of it win nothing
// FL_VECTOR_CLONES   a CPU loop compiled for baseline, AVX2 and AVX-512; the CPU decides at load
#pragma once

#if defined(__CUDACC__)
#define FL_HOST_DEVICE __host__ __device__ __forceinline__
#elif defined(__GNUC__)
#define FL_HOST_DEVICE inline __attribute__((always_inline))
#else
#define FL_HOST_DEVICE inline
#endif

#if defined(__CUDACC__)
#define FL_NO_UNROLL _Pragma("unroll 1")
#else
#define FL_NO_UNROLL
#endif

#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__) && \
    !defined(__CUDACC__)
#define FL_VECTOR_CLONES \
  __attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))
#else
#define FL_VECTOR_CLONES
#endif
