// Closed systems of moments of a gas in one dimension of space: what goes in, what comes out.
#pragma once

#include <cstdint>

#include "levels.h"

namespace kepton {

// As `kepton.closure.fields.BOUNDARIES`
enum Boundary : int64_t { PERIODIC, REFLECTING, INFLOW, DIFFUSIVE };

struct ClosedMoments {
  long times, gases, cells, kinds, velocities;  // t, b, n, p, N + 1
  int64_t boundary;
  double gamma, prandtl;
  const double* moments;       // (N + 1, p, b, n) at the start
  const int32_t* steps;        // (t, b)
  const double* step_length;   // (t, b)
  const double* knudsen;       // (b,)
  const double* velocity;      // (b, N + 1)
  const double* outside;       // (b, p, N + 1, 2): molecules beyond the ends
  const double* kept;          // (t, N - 2, p, b, w): what damping leaves of each wave
  const double* forgetting;    // (N + 3, 4) as `scattering.Forgetting`; null: the rest relaxes alike
  const double* to_molecules;  // (N + 1, N + 1), and its inverse
  const double* of_molecules;

  double* found;  // (t, N + 1, p, b, n)
  long threads;
};

KEPTON_AT_EACH_LEVEL(void solve(const ClosedMoments& given);)

// At the level of the machine's instructions
inline void solve(const ClosedMoments& given) {
  KEPTON_AT_BEST_LEVEL(solve(given))
}

}  // namespace kepton
