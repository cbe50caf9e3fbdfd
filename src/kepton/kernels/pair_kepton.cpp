#include "pair_kepton.h"

#include <mpi.h>

#include <algorithm>
#include <climits>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <stdexcept>
#include <string>

#include "atom.h"
#include "comm.h"
#include "error.h"
#include "force.h"
#include "memory.h"
#include "neigh_list.h"
#include "neighbor.h"
#include "update.h"

using namespace LAMMPS_NS;

namespace {

// All bytes of a file, false where it cannot be read
bool read_file(const char* name, std::string& bytes) {
  FILE* file = std::fopen(name, "rb");
  if (!file) return false;
  char part[65536];
  for (size_t count; (count = std::fread(part, 1, sizeof part, file));) bytes.append(part, count);
  const bool fine = !std::ferror(file);
  std::fclose(file);
  return fine;
}

}  // namespace

PairKepton::PairKepton(LAMMPS* lmp) : Pair(lmp) {
  single_enable = 0, restartinfo = 0, one_coeff = 1, manybody_flag = 1;
  centroidstressflag = CENTROID_AVAIL;
}

PairKepton::~PairKepton() {
  if (!allocated) return;
  memory->destroy(setflag);
  memory->destroy(cutsq);
}

void PairKepton::settings(int narg, char** arg) {
  if (narg != 1)
    error->all(FLERR, "pair_style kepton takes one argument, a model file: pair_style kepton "
                      "model.kepton");
  if (strcmp(update->unit_style, "metal") != 0)
    error->all(FLERR, "pair_style kepton computes in eV and Angstrom, and units are {}; give `units "
                      "metal`", update->unit_style);
  std::string bytes;
  long size = 0;
  if (comm->me == 0) {
    if (!read_file(arg[0], bytes)) size = -1;
    else size = bytes.size();
  }
  MPI_Bcast(&size, 1, MPI_LONG, 0, world);
  if (size < 0) error->all(FLERR, "pair_style kepton: the file {} cannot be read", arg[0]);
  if (size > INT_MAX) error->all(FLERR, "pair_style kepton: {} is larger than 2 GB", arg[0]);
  bytes.resize(size);
  MPI_Bcast(&bytes[0], size, MPI_BYTE, 0, world);
  try {
    model = kepton::read_model(bytes);
  } catch (const std::runtime_error& wrong) {
    error->all(FLERR, "pair_style kepton: {} cannot be used: {}", arg[0], wrong.what());
  }
  comm_reverse = 3 * model.members;
}

void PairKepton::allocate() {
  const int types = atom->ntypes + 1;
  memory->create(setflag, types, types, "pair:setflag");
  memory->create(cutsq, types, types, "pair:cutsq");
  for (int i = 0; i < types; i++)
    for (int j = 0; j < types; j++) setflag[i][j] = 0, cutsq[i][j] = 0.0;
  allocated = 1;
}

void PairKepton::coeff(int narg, char** arg) {
  if (!allocated) allocate();
  const int types = atom->ntypes;
  if (narg != 2 + types)
    error->all(FLERR, "pair_coeff of pair_style kepton takes * * and an element for each of the {} "
                      "atom types", types);
  places.assign(types + 1, -1);
  const auto& species = model.species;
  for (int type = 1; type <= types; type++) {
    const std::string name = arg[1 + type];
    if (name == "NULL") continue;  // of another style of a hybrid
    const auto found = std::find(species.begin(), species.end(), name);
    if (found == species.end()) {
      std::string known;
      for (const auto& one : species) known += " " + one;
      error->all(FLERR, "pair_coeff: the potential knows{}, and no {}", known, name);
    }
    places[type] = found - species.begin();
  }
  for (int i = 1; i <= types; i++)
    for (int j = 1; j <= types; j++) setflag[i][j] = places[i] >= 0 && places[j] >= 0;
}

void PairKepton::init_style() {
  if (!force->newton_pair)
    error->all(FLERR, "pair_style kepton gives forces to ghost atoms; give `newton on`");
  neighbor->add_request(this, NeighConst::REQ_FULL);
}

double PairKepton::init_one(int i, int j) {
  if (!setflag[i][j]) error->all(FLERR, "All pair coeffs are not set");
  return model.cutoff();
}

void PairKepton::assign_types(std::vector<int32_t>& found) const {
  found.resize(atom->nlocal + atom->nghost);
  for (size_t i = 0; i < found.size(); i++) found[i] = places[atom->type[i]];
}

// Neighbours of each local atom, those of one element together
void PairKepton::list_neighbors() {
  const long known = model.species.size(), local = atom->nlocal;
  centres = elements;
  std::fill(centres.begin() + local, centres.end(), -1);
  std::vector<long> most(known), first(known), found(known);
  auto visit = [&](auto&& each, auto&& after) {
    for (int k = 0; k < list->inum; k++) {
      const int i = list->ilist[k];
      std::fill(found.begin(), found.end(), 0);
      for (int n = 0; n < list->numneigh[i]; n++) {
        const int j = list->firstneigh[i][n] & NEIGHMASK;
        if (elements[j] >= 0) each(i, j, elements[j], found[elements[j]]++);
      }
      after();
    }
  };
  visit([](long, int, int, long) {}, [&] {
    for (long e = 0; e < known; e++) most[e] = std::max(most[e], found[e]);
  });
  if (*std::max_element(most.begin(), most.end()) == 0) most[0] = 1;  // the kernel wants a segment
  segments.clear();
  slots = 0;
  for (long e = 0; e < known; e++) {
    first[e] = slots;
    slots += most[e];
    if (most[e]) segments.push_back({e, most[e]});
  }
  index.assign(local * slots, -1);
  image.assign(local * slots, 0);
  home.assign(3 * elements.size(), 0);
  visit([&](long i, int j, int e, long n) { index[i * slots + first[e] + n] = j; }, [] {});
}

void PairKepton::evaluate() {
  const long all = elements.size(), members = model.members;
  energy.assign(members, 0.0);
  forces.assign(3 * members * all, 0.0);
  if (eflag_atom) shares.resize(members * all);
  if (vflag_global) moments.assign(9 * members, 0.0);
  if (vflag_atom || cvflag_atom) atomic.assign(9 * members * all, 0.0);
  if (!atom->nlocal) return;
  const double cell[9] = {};
  kepton::DeepPotential<float> given = model.potential();
  given.frames = 1, given.atoms = all, given.slots = slots;
  given.positions = &atom->x[0][0];
  given.types = centres.data();
  given.cell = cell;
  given.home = home.data(), given.index = index.data(), given.image = image.data();
  given.segments = segments;
  given.energy = energy.data(), given.forces = forces.data();
  given.shares = eflag_atom ? shares.data() : nullptr;
  given.virial = vflag_global ? moments.data() : nullptr;
  given.atomic = vflag_atom || cvflag_atom ? atomic.data() : nullptr;
  given.threads = comm->nthreads;
  kepton::evaluate(given);
}

void PairKepton::compute(int eflag, int vflag) {
  ev_init(eflag, vflag);
  std::vector<int32_t> now;
  assign_types(now);
  if (neighbor->ago == 0 || now != elements) {
    elements.swap(now);
    list_neighbors();
  }
  evaluate();

  const long all = elements.size(), members = model.members;
  const double share = 1.0 / members;
  for (long member = 0; member < members; member++) {
    const double* pulled = &forces[3 * member * all];
    for (long i = 0; i < all; i++)
      for (int c = 0; c < 3; c++) atom->f[i][c] += share * pulled[3 * i + c];
    if (eflag_global) eng_vdwl += share * energy[member];
    if (eflag_atom && atom->nlocal)
      for (long i = 0; i < atom->nlocal; i++) eatom[i] += share * shares[member * all + i];
    if (vflag_global) {
      const double* w = &moments[9 * member];
      const double six[6] = {w[0], w[4], w[8], w[1], w[2], w[5]};
      for (int c = 0; c < 6; c++) virial[c] += share * six[c];
    }
  }
  if (vflag_fdotr) virial_fdotr_compute();
  if ((vflag_atom || cvflag_atom) && atom->nlocal) share_virial();
  if (deviation_wanted) compare_members();
}

// The virial of each atom, ghosts too, of which LAMMPS gives the owners theirs: nine components, as
// the flux of heat asks for, and the six of their symmetric part
void PairKepton::share_virial() {
  const long all = elements.size(), members = model.members;
  for (long i = 0; i < all; i++) {
    double w[9] = {};
    for (long member = 0; member < members; member++)
      for (int c = 0; c < 9; c++) w[c] += atomic[9 * (member * all + i) + c] / members;
    const double six[6] = {w[0], w[4], w[8], 0.5 * (w[1] + w[3]), 0.5 * (w[2] + w[6]),
                           0.5 * (w[5] + w[7])};
    if (vflag_atom)
      for (int c = 0; c < 6; c++) vatom[i][c] += six[c];
    const double nine[9] = {w[0], w[4], w[8], w[1], w[2], w[5], w[3], w[6], w[7]};
    if (cvflag_atom)
      for (int c = 0; c < 9; c++) cvatom[i][c] += nine[c];
  }
}

// sqrt(< |F_i - <F_i>|^2 >) over the members, as `atom_deviation` of kepton.potential.ensemble
void PairKepton::compare_members() {
  comm->reverse_comm(this);
  const long all = elements.size(), members = model.members;
  deviation.assign(std::max(atom->nmax, 1), 0.0);
  for (long i = 0; i < atom->nlocal; i++) {
    double mean[3] = {}, square = 0.0;
    for (long member = 0; member < members; member++)
      for (int c = 0; c < 3; c++) mean[c] += forces[3 * (member * all + i) + c] / members;
    for (long member = 0; member < members; member++)
      for (int c = 0; c < 3; c++) {
        const double off = forces[3 * (member * all + i) + c] - mean[c];
        square += off * off;
      }
    deviation[i] = std::sqrt(square / members);
  }
  deviation_step = update->ntimestep;
}

void* PairKepton::extract(const char* name, int& dimension) {
  dimension = 0;
  return strcmp(name, "deviation_flag") == 0 ? &deviation_wanted : nullptr;
}

void* PairKepton::extract_peratom(const char* name, int& columns) {
  if (strcmp(name, "deviation") != 0) return nullptr;
  columns = 0;
  return deviation_step == update->ntimestep ? deviation.data() : nullptr;
}

int PairKepton::pack_reverse_comm(int count, int first, double* buffer) {
  const long all = elements.size(), members = model.members;
  double* to = buffer;
  for (long i = first; i < first + count; i++)
    for (long member = 0; member < members; member++)
      to = std::copy_n(&forces[3 * (member * all + i)], 3, to);
  return to - buffer;
}

void PairKepton::unpack_reverse_comm(int count, int* list, double* buffer) {
  const long all = elements.size(), members = model.members;
  for (int k = 0; k < count; k++)
    for (long member = 0; member < members; member++)
      for (int c = 0; c < 3; c++) forces[3 * (member * all + list[k]) + c] += *buffer++;
}

double PairKepton::memory_usage() {
  return Pair::memory_usage() + index.capacity() * sizeof(int32_t) +
         image.capacity() * sizeof(int16_t) +
         (forces.capacity() + shares.capacity() + atomic.capacity()) * sizeof(double);
}
