"""What breaks: faults that are planted into the sound of a running machine.

Conventions
-----------
A fault is called with a healthy machine that runs, and returns its faulty sound. The severity lies in [0, 1]:
0 changes nothing, 1 is the worst that is simulated, and what a fault adds has an amplitude proportional to it.
``level`` is the RMS of what is added at severity 1, relative to the healthy sound. Orders are multiples of the
shaft's frequency; angles are unwrapped, in radians.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from nearfar.simulation.continued import passing
from nearfar.simulation.signals import Signal, bump, drift, from_db, lines, normalized, ringing, rms

STRENGTH_SPREAD = 0.2  # relative standard deviation of one impact's amplitude, our choice

# Rolling elements slip, by 1 to 2 % of the kinematic frequency: R. B. Randall, J. Antoni, "Rolling element
# bearing diagnostics - a tutorial", Mech. Syst. Signal Process. 25 (2011).
SLIP = 0.01


@dataclass(frozen=True, slots=True)
class Running:
    """A machine that runs.

    Attributes
    ----------
    sound, angle : (samples,) array
        What it sounds like, and how far its shaft has turned.
    rate : int
        In Hz.
    events : (events,) array
        When, in samples, something strikes in regular operation, as a valve does; empty without.
    """

    sound: Signal
    angle: Signal
    rate: int
    events: Signal = field(default_factory=lambda: np.empty(0))


class Fault(Protocol):
    """What a machine can suffer from."""

    def __call__(self, running: Running, *, severity: float, rng: np.random.Generator) -> Signal:
        """The sound of the machine with this fault, from severity 0 (as it was) to 1: (samples,) array.

        Raises
        ------
        ValueError
            If the severity is not within [0, 1].
        """
        ...


def refuse_severity(severity: float) -> None:
    """Raise ``ValueError`` if the severity is not within [0, 1]."""
    if not 0 <= severity <= 1:
        raise ValueError(f"severity={severity}: must be between 0 (no change) and 1 (worst)")


def with_part(running: Running, part: Signal, level: float) -> Signal:
    """The machine's sound and ``part``, whose RMS is to be ``level`` times that of the sound."""
    return running.sound + level * rms(running.sound) * normalized(part)


def _turned(running: Running, rng: np.random.Generator) -> Signal:
    """The shaft's angle from where the fault sits, which may be anywhere."""
    return running.angle + rng.uniform(0, 2 * np.pi)


@dataclass(frozen=True, slots=True)
class Shaking:
    """A force that turns with the shaft: lines at low orders, and everything swells with it.

    With the severity ``s`` the sound ``x`` of the machine becomes::

        x (1 + depth s cos(swell theta)) + level s rms(x) sum_k a_k cos(o_k theta) / rms

    ``unbalance`` and ``misalignment`` are its two cases.

    Attributes
    ----------
    depth : float
        Of the modulation, at severity 1.
    level : float
        Of the lines.
    swell : float
        Order of the modulation.
    orders, amplitudes : (lines,) tuple
        ``o_k`` and, relative to each other, ``a_k``.
    """

    depth: float
    level: float
    swell: float
    orders: tuple[float, ...]
    amplitudes: tuple[float, ...]

    def __call__(self, running: Running, *, severity: float, rng: np.random.Generator) -> Signal:
        refuse_severity(severity)
        theta = _turned(running, rng)
        shake = lines(theta, self.orders, np.asarray(self.amplitudes), np.zeros(len(self.orders)))
        swollen = running.sound * (1 + self.depth * severity * np.cos(self.swell * theta))
        return swollen + self.level * severity * rms(running.sound) * normalized(shake)


def unbalance(*, depth: float, level: float) -> Shaking:
    """A centre of mass beside the axis: the centrifugal force turns with the shaft.

    A strong line at the order 1 (R. B. Randall, "Vibration-based Condition Monitoring", 2nd ed., 2021), with
    harmonics because a mount is not linear; because the force changes clearances and loads, it modulates.
    """
    return Shaking(depth, level, swell=1.0, orders=(1.0, 2.0, 3.0, 4.0), amplitudes=(1.0, 0.6, 0.36, 0.216))


def misalignment(*, depth: float, level: float) -> Shaking:
    """Two shafts that do not meet: the coupling is bent twice per revolution.

    The order 2 is the strongest, beside 1, 3 and 4 (R. B. Randall, "Vibration-based Condition Monitoring",
    2nd ed., 2021).
    """
    return Shaking(depth, level, swell=2.0, orders=(1.0, 2.0, 3.0, 4.0), amplitudes=(0.5, 1.0, 0.4, 0.3))


@dataclass(frozen=True, slots=True)
class Impacts:
    """Something hits something, again and again, and a resonance rings.

    Every impact at ``t_i`` adds ``a_i exp(-zeta w (t - t_i)) sin(w (t - t_i))`` with ``w = 2 pi resonance_hz``,
    the response of a resonance to a blow (bearings: P. D. McFadden, J. D. Smith, "Model for the vibration
    produced by a single point defect in a rolling element bearing", J. Sound Vib. 96 (1984); teeth: W. Wang,
    "Early detection of gear tooth cracking using the resonance demodulation technique", Mech. Syst. Signal
    Process. 15 (2001)). Between two impacts the shaft turns by ``2 pi / per_revolution (1 + jitter N(0, 1))``;
    deviations add up, as in J. Antoni, R. B. Randall, "A stochastic model for simulation and diagnostics of
    rolling element bearings with localized faults", J. Vib. Acoust. 125 (2003). The amplitudes ``a_i`` scatter
    by ``STRENGTH_SPREAD``, and swell by ``1 + depth cos(swell theta)`` where a defect moves through the load.

    Attributes
    ----------
    per_revolution : float
        Order of the impacts: 1 for a damaged blade or tooth, an order of ``Bearing`` for a bearing.
    resonance_hz, damping : float
        Frequency of what rings, and its damping ratio ``zeta``.
    level : float
        Of the ringing.
    jitter : float
        Relative standard deviation of the angle between impacts.
    swell, depth : float
        Order and depth of the modulation by the load: none by default.
    """

    per_revolution: float
    resonance_hz: float
    damping: float
    level: float
    jitter: float = 0.0
    swell: float = 1.0
    depth: float = 0.0

    def __call__(self, running: Running, *, severity: float, rng: np.random.Generator) -> Signal:
        refuse_severity(severity)
        rng = passing(rng)
        onsets = self.onsets(running.angle, rng=rng)
        strengths = 1 + STRENGTH_SPREAD * rng.standard_normal(len(onsets))
        theta = np.interp(onsets, np.arange(len(running.angle)), running.angle)
        strengths *= 1 + self.depth * np.cos(self.swell * theta)
        rings = ringing(
            onsets,
            strengths,
            hertz=self.resonance_hz,
            damping=self.damping,
            samples=len(running.sound),
            rate=running.rate,
        )
        return with_part(running, rings, severity * self.level)

    def onsets(self, angle: Signal, *, rng: np.random.Generator) -> Signal:
        """When it hits, in samples and fractions of them: (impacts,) array."""
        step = 2 * np.pi / self.per_revolution
        enough = int((angle[-1] - angle[0]) / step * (1 + self.jitter)) + 2
        steps = step * (1 + self.jitter * rng.standard_normal(enough))
        at = angle[0] + rng.uniform(0, step) + np.cumsum(steps) - steps[0]
        return np.interp(at[at < angle[-1]], angle, np.arange(len(angle)))


@dataclass(frozen=True, slots=True)
class Rattle:
    """Something is loose: it hits irregularly, as often as chance has it, and sometimes hard.

    Impacts are a Poisson process in the angle of the shaft, with exponentially distributed strengths: our
    model of clearances that open and close at random. Each rings as in ``Impacts``.

    Attributes
    ----------
    per_revolution : float
        Mean number of impacts.
    resonance_hz, damping, level : float
        As in ``Impacts``.
    """

    per_revolution: float
    resonance_hz: float
    damping: float
    level: float

    def __call__(self, running: Running, *, severity: float, rng: np.random.Generator) -> Signal:
        refuse_severity(severity)
        rng, angle = passing(rng), running.angle
        expected = self.per_revolution * (angle[-1] - angle[0]) / (2 * np.pi)
        at = np.sort(rng.uniform(angle[0], angle[-1], rng.poisson(expected)))
        rings = ringing(
            np.interp(at, angle, np.arange(len(angle))),
            rng.standard_exponential(len(at)),
            hertz=self.resonance_hz,
            damping=self.damping,
            samples=len(running.sound),
            rate=running.rate,
        )
        return with_part(running, rings, severity * self.level)


@dataclass(frozen=True, slots=True)
class Rebound:
    """A part that strikes in regular operation bounces: it strikes again, after times that grow shorter.

    After each of the machine's events ``count`` hits follow, the first after ``seconds``, each after
    ``restitution`` times the time and with ``restitution`` times the strength of the one before: a ball that
    jumps (the coefficient of restitution of any textbook of mechanics).

    Attributes
    ----------
    seconds : float
        From an event to the first rebound.
    resonance_hz, damping, level : float
        As in ``Impacts``.
    restitution : float
    count : int
    """

    seconds: float
    resonance_hz: float
    damping: float
    level: float
    restitution: float = 0.7
    count: int = 4

    def __call__(self, running: Running, *, severity: float, rng: np.random.Generator) -> Signal:
        refuse_severity(severity)
        powers = self.restitution ** np.arange(self.count)
        scatter = 1 + STRENGTH_SPREAD * passing(rng).standard_normal((len(running.events), 2, 1))
        after = self.seconds * running.rate * np.abs(scatter[:, 0]) * np.cumsum(powers)
        rings = ringing(
            (running.events[:, None] + after).ravel(),
            (scatter[:, 1] * powers).ravel(),
            hertz=self.resonance_hz,
            damping=self.damping,
            samples=len(running.sound),
            rate=running.rate,
        )
        return with_part(running, rings, severity * self.level)


@dataclass(frozen=True, slots=True)
class Wear:
    """Teeth that are worn all around: harmonics of the mesh, and sidebands at the shaft's frequency.

    Adds ``sum_k ratio^(k-1) cos(k teeth theta + phi_k) (1 + sum_m cos(m theta + psi_m))``, k from 2, m = 1, 2:
    wear takes the involute's shape, twice per tooth (R. B. Randall, "A new method of modeling gear faults",
    J. Mech. Des. 104 (1982): the second mesh harmonic shows it first).

    Attributes
    ----------
    teeth : float
        Order of the mesh.
    level : float
    harmonics : int
        The last one.
    ratio : float
        Amplitude of a harmonic relative to the one before.
    """

    teeth: float
    level: float
    harmonics: int = 5
    ratio: float = 0.8

    def __call__(self, running: Running, *, severity: float, rng: np.random.Generator) -> Signal:
        refuse_severity(severity)
        theta = _turned(running, rng)
        k = np.arange(2, self.harmonics + 1)
        speed = (running.angle[-1] - running.angle[0]) / (len(theta) - 1)  # radians a sample
        k = k[(k * self.teeth + 2) * speed < 0.9 * np.pi]
        phases = rng.uniform(0, 2 * np.pi, self.harmonics + 1)
        mesh = lines(theta, k * self.teeth, self.ratio ** (k - 2.0), phases[k])
        sidebands = lines(theta, (1.0, 2.0), np.ones(2), phases[:2])
        return with_part(running, mesh * (1 + sidebands), severity * self.level)


@dataclass(frozen=True, slots=True)
class Friction:
    """Surfaces that rub because their lubricant is gone: broad noise at high frequencies that comes and goes.

    Asperities that meet excite everything up to high frequencies (A. Akay, "Acoustics of friction", J. Acoust.
    Soc. Am. 111 (2002)); the film breaks where the load is, so the noise swells with the shaft, and it wanders.

    Attributes
    ----------
    hertz, octaves : float
        Centre and half width of the noise.
    level : float
    swell, depth : float
        Order and depth of the modulation.
    wander_db : float
        Standard deviation of the slow change of its level.
    """

    hertz: float
    octaves: float
    level: float
    swell: float = 1.0
    depth: float = 0.5
    wander_db: float = 3.0

    def __call__(self, running: Running, *, severity: float, rng: np.random.Generator) -> Signal:
        refuse_severity(severity)
        samples, rate = len(running.sound), running.rate
        noise = bump(self.hertz, octaves=self.octaves, samples=samples, rate=rate, rng=rng)
        swell = 1 + self.depth * np.cos(self.swell * _turned(running, rng))
        wander = from_db(self.wander_db * drift(2.0, samples=samples, rate=rate, rng=rng))
        return with_part(running, noise * swell * wander, severity * self.level)


@dataclass(frozen=True, slots=True)
class Leak:
    """Air or water escapes through a gap: a jet's steady hiss.

    A jet is loudest around ``0.2 u / d`` Hz, with its speed ``u`` and the gap's width ``d``, and broad (M. J.
    Lighthill, "On sound generated aerodynamically II", Proc. R. Soc. A 222 (1954)).

    Attributes
    ----------
    hertz, octaves : float
        Centre and half width of the hiss.
    level : float
    """

    hertz: float
    octaves: float
    level: float

    def __call__(self, running: Running, *, severity: float, rng: np.random.Generator) -> Signal:
        refuse_severity(severity)
        hiss = bump(self.hertz, octaves=self.octaves, samples=len(running.sound), rate=running.rate, rng=rng)
        return with_part(running, hiss, severity * self.level)


@dataclass(frozen=True, slots=True)
class Squeal:
    """A belt or a brake that sticks and slips: a tone with many harmonics, in bursts.

    Stick-slip is a sawtooth whose frequency is set by the stiffness, not by the speed (A. Akay, "Acoustics of
    friction", J. Acoust. Soc. Am. 111 (2002)). It wanders by a percent, and comes when friction happens to be
    high: where a slow random course exceeds a limit, and where it is highest in any case.

    Attributes
    ----------
    hertz : float
        Of the tone.
    level : float
    limit : float
        In standard deviations of that course: 0 squeals half of the time.
    bursts : float
        Independent values of that course in a second.
    """

    hertz: float
    level: float
    limit: float = 0.0
    bursts: float = 3.0

    def __call__(self, running: Running, *, severity: float, rng: np.random.Generator) -> Signal:
        refuse_severity(severity)
        samples, rate = len(running.sound), running.rate
        wander = 1 + 0.01 * drift(4.0, samples=samples, rate=rate, rng=rng)
        angle = np.cumsum(2 * np.pi * self.hertz / rate * wander)
        k = np.arange(1.0, int(0.9 * rate / 2 / self.hertz) + 1)
        tone = lines(angle, k, 1.0 / k, np.full(len(k), -np.pi / 2))
        high = drift(self.bursts, samples=samples, rate=rate, rng=rng)
        limit = min(self.limit, high.max() - 1)  # else a short clip might have no squeal at all
        return with_part(running, tone * np.clip(high - limit, 0.0, 1.0), severity * self.level)


@dataclass(frozen=True, slots=True)
class Surge:
    """A way that is clogged: the flow separates, rumbles, and swells below the speed of the shaft.

    Stalled cells turn with the rotor at a part of its speed, usually 0.3 to 0.7 of it (I. J. Day, "Stall,
    surge, and 75 years of research", J. Turbomach. 138 (2016)).

    Attributes
    ----------
    depth : float
        Of the modulation of everything, at severity 1.
    level : float
        Of the rumble.
    hertz : float
        Centre of the rumble, which is two octaves wide.
    swell : float
        Order of the modulation.
    """

    depth: float
    level: float
    hertz: float
    swell: float = 0.45

    def __call__(self, running: Running, *, severity: float, rng: np.random.Generator) -> Signal:
        refuse_severity(severity)
        swell = np.cos(self.swell * _turned(running, rng))
        samples, rate = len(running.sound), running.rate
        rumble = bump(self.hertz, octaves=1.0, samples=samples, rate=rate, rng=rng)
        swollen = running.sound * (1 + self.depth * severity * swell)
        return swollen + self.level * severity * rms(running.sound) * normalized(rumble * (1 + 0.8 * swell))


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """A rolling bearing whose inner race turns; all orders are relative to the shaft.

    R. B. Randall, J. Antoni, "Rolling element bearing diagnostics - a tutorial", Mech. Syst. Signal Process.
    25 (2011), with ``q = ball_diameter / pitch_diameter cos(contact)``.

    Attributes
    ----------
    balls : int
    ball_diameter, pitch_diameter : float
        In one unit.
    contact_degrees : float
        Angle between a ball's load and the plane of the balls.
    """

    balls: int
    ball_diameter: float
    pitch_diameter: float
    contact_degrees: float = 0.0

    @property
    def _q(self) -> float:
        return self.ball_diameter / self.pitch_diameter * float(np.cos(np.radians(self.contact_degrees)))

    @property
    def outer(self) -> float:
        """Impacts of a defect in the outer race, "BPFO": ``balls / 2 (1 - q)``."""
        return self.balls / 2 * (1 - self._q)

    @property
    def inner(self) -> float:
        """Impacts of a defect in the inner race, "BPFI": ``balls / 2 (1 + q)``."""
        return self.balls / 2 * (1 + self._q)

    @property
    def ball(self) -> float:
        """Rotation of a ball, "BSF": ``pitch_diameter / (2 ball_diameter) (1 - q^2)``; a defect hits twice."""
        return self.pitch_diameter / (2 * self.ball_diameter) * (1 - self._q**2)

    @property
    def cage(self) -> float:
        """Rotation of the cage, "FTF": ``(1 - q) / 2``."""
        return (1 - self._q) / 2


# As in the drive end of the test stand of the Case Western Reserve University Bearing Data Center.
BEARING_6205 = Geometry(balls=9, ball_diameter=7.94, pitch_diameter=39.04)


def outer_race(bearing: Geometry, *, resonance_hz: float, level: float) -> Impacts:
    """A pit in the race that stands still, always in the load: hit by every ball with equal strength."""
    return Impacts(bearing.outer, resonance_hz, damping=0.03, level=level, jitter=SLIP)


def inner_race(bearing: Geometry, *, resonance_hz: float, level: float) -> Impacts:
    """A pit in the race that turns: through the load, and out of it, once per revolution."""
    return Impacts(bearing.inner, resonance_hz, damping=0.03, level=level, jitter=SLIP, swell=1.0, depth=0.8)


def rolling_element(bearing: Geometry, *, resonance_hz: float, level: float) -> Impacts:
    """A pit in a ball: it hits both races as the ball turns, and the cage carries it through the load."""
    return Impacts(
        2 * bearing.ball, resonance_hz, damping=0.03, level=level, jitter=SLIP, swell=bearing.cage, depth=0.8
    )


def cage(bearing: Geometry, *, resonance_hz: float, level: float) -> Impacts:
    """A cracked cage: it knocks once per turn of its own, with more scatter than anything on a race."""
    return Impacts(bearing.cage, resonance_hz, damping=0.08, level=level, jitter=4 * SLIP)
