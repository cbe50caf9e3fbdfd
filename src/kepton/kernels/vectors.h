// Vectors as wide as the registers of the level that a file is compiled for, and functions of them.
#pragma once

#include <cstdint>

namespace kepton {

#if defined(__AVX512F__)
#define LEVEL avx512
constexpr int BYTES = 64, TILE = 12, RADIAL = 4;
#elif defined(__AVX2__)
#define LEVEL avx2
constexpr int BYTES = 32, TILE = 6, RADIAL = 2;
#else
#define LEVEL plain
constexpr int BYTES = 16, TILE = 6, RADIAL = 2;
#endif
// TILE outputs by two vectors, and RADIAL functions by four rows, are what registers hold.

namespace LEVEL {

template <class T> struct Whole;
template <> struct Whole<float> { using type = int32_t; };
template <> struct Whole<double> { using type = int64_t; };

template <class T> struct Register {
  typedef T vector __attribute__((vector_size(BYTES)));
  typedef typename Whole<T>::type whole __attribute__((vector_size(BYTES)));
  static constexpr int width = BYTES / sizeof(T);
};
template <class T> using Vector = typename Register<T>::vector;

template <class T> inline Vector<T> all(T value) { return Vector<T>{} + value; }

template <class T> inline T sum(Vector<T> v) {
  T total = 0;
  for (int lane = 0; lane < Register<T>::width; lane++) total += v[lane];
  return total;
}

template <class T> inline Vector<T> bounded(Vector<T> x, T low, T high) {
  x = x < low ? all<T>(low) : x;
  return x > high ? all<T>(high) : x;
}

// exp(x) = 2^n exp(r), |r| <= log(2) / 2, by its Taylor polynomial; |x| < 80
inline Vector<float> exponential(Vector<float> x) {
  const float magic = 12582912.0f;  // 1.5 * 2^23: adding it rounds
  Vector<float> shifted = x * 1.44269504f + magic, n = shifted - magic;
  Vector<float> r = x - n * 0.693359375f + n * 2.12194440e-4f;
  Vector<float> p = all(1.0f / 5040);
  for (float c : {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f}) p = p * r + c;
  auto power = (__builtin_convertvector(n, Register<float>::whole) + 127) << 23;
  return p * (Vector<float>)power;
}

inline Vector<double> exponential(Vector<double> x) {
  const double magic = 6755399441055744.0;  // 1.5 * 2^52
  Vector<double> shifted = x * 1.4426950408889634 + magic, n = shifted - magic;
  Vector<double> r = x - n * 0.693147180369123816490 - n * 1.90821492927058770002e-10;
  Vector<double> p = all(1.0 / 6227020800.0);
  for (double c : {1.0 / 479001600, 1.0 / 39916800, 1.0 / 3628800, 1.0 / 362880, 1.0 / 40320,
                   1.0 / 5040, 1.0 / 720, 1.0 / 120, 1.0 / 24, 1.0 / 6, 0.5, 1.0, 1.0})
    p = p * r + c;
  auto power = (__builtin_convertvector(n, Register<double>::whole) + 1023) << 52;
  return p * (Vector<double>)power;
}

template <class T> inline Vector<T> tanh(Vector<T> x) {
  return 1 - 2 / (exponential(2 * bounded<T>(x, -20, 20)) + 1);
}

}  // namespace LEVEL
}  // namespace kepton
