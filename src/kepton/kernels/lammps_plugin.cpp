// What LAMMPS calls when it loads the plugin.
//
// Source: LAMMPS, "Writing plugins"; its lammpsplugin.h, which is not installed with its headers

#include <cstring>

#include "error.h"
#include "lammps.h"
#include "pair_kepton.h"

using namespace LAMMPS_NS;

namespace {

struct Plugin {
  const char *version, *style, *name, *info, *author;
  void* (*creator)(void*);
  void* handle;
};

void* created(void* lmp) { return static_cast<Pair*>(new PairKepton(static_cast<LAMMPS*>(lmp))); }

}  // namespace

extern "C" __attribute__((visibility("default"))) void lammpsplugin_init(void* lmp, void* handle,
                                                                        void* registers) {
  auto* lammps = static_cast<LAMMPS*>(lmp);
#ifdef KEPTON_LAMMPS_VERSION
  const char* made_for = KEPTON_LAMMPS_VERSION;
  if (std::strncmp(lammps->version, made_for, std::strlen(made_for)) != 0)
    lammps->error->all(FLERR, "The plugin of Kepton was compiled for LAMMPS of {}, and this is of {}; "
                              "compile it with the headers of this one: kepton lammps plugin",
                       made_for, lammps->version);
#endif
  Plugin plugin{lammps->version, "pair", "kepton", "pair style kepton", "Kepton", created, handle};
  reinterpret_cast<void (*)(Plugin*, void*)>(registers)(&plugin, lmp);
}
