"""A model of molecular dynamics on many devices, from what one device was measured to do.

    t(N) = n t_1 + 48 g / B + 12 L,   n = atoms / N,   g = rho ((a + 2 h)^3 - a^3),   a^3 = n / rho

Each of N devices holds a cube of edge a, and around it ghosts of its neighbours in a shell of
thickness h = cutoff + skin: 24 bytes of a ghost's position come, 24 of the force on it go back, in
three passes of two messages each way. `python bench/scaling.py` prints the table of
docs/explanations/scaling.md.

Args of `step`: t_1 seconds an atom and step of a device; B bytes a second and L seconds of latency
between devices; rho atoms per Å^3.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Device:
    """One device: seconds and bytes an atom, bytes it has, bytes a second, seconds a message."""

    name: str
    atom: float
    bytes: float
    memory: float
    bandwidth: float
    latency: float


CPU, GPU = 4.4e3, 2.45e3
"""Bytes an atom: measured with 998,784 atoms on CPUs; compiled with 20 million for an H200, with
the lists that are made while the old ones are there (bench/RESULTS.md)"""
REACH, DENSITY = 7.0, 0.100
"""Å of cutoff and skin, atoms per Å^3 of water"""
ATOMS = 17e9
DEVICES = (
    Device("H200 at its floor", 36e-9, GPU, 141e9, 50e9, 5e-6),
    Device("H200 at half of it", 72e-9, GPU, 141e9, 50e9, 5e-6),
    Device("a CPU core", 24.2e-6, CPU, 4e9, 0.4e9, 2e-6),
)
COUNTS = {"H200": (500, 1_000, 4_000, 16_000), "a CPU": (100_000, 1_000_000, 10_000_000)}


def ghosts(own: float) -> float:
    """Atoms around a cube that holds so many."""
    edge = (own / DENSITY) ** (1 / 3)
    return DENSITY * ((edge + 2 * REACH) ** 3 - edge**3)


def step(device: Device, count: int, atoms: float = ATOMS) -> tuple[float, float]:
    """Seconds a step on so many devices, and what share of it is communication."""
    own = atoms / count
    sent = 48 * ghosts(own) / device.bandwidth + 12 * device.latency
    total = own * device.atom + sent
    return total, sent / total


def main() -> None:
    print("| device | devices | atoms on each | GB | s a step | s an atom and step | of it sent |")
    print("|---|---|---|---|---|---|---|")
    for device in DEVICES:
        counts = next(c for name, c in COUNTS.items() if device.name.startswith(name))
        for count in counts:
            own = ATOMS / count
            memory = device.bytes * (own + ghosts(own)) / 1e9
            if 1e9 * memory > device.memory:
                continue
            seconds, share = step(device, count)
            print(
                f"| {device.name} | {count:,} | {own:,.0f} | {memory:.3g} | {seconds:.3g} | "
                f"{seconds / ATOMS:.2g} | {100 * share:.2g} % |"
            )


if __name__ == "__main__":
    main()
