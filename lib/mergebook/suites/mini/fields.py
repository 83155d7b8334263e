"""Pictures that fill the frame: textures, land use, aerial views, landscapes, tissue."""

from __future__ import annotations

import numpy as np

from mergebook.suites.mini.canvas import SIZE, contrast, low_frequency, noisy

V, U = np.meshgrid(
    np.arange(SIZE, dtype=np.float32), np.arange(SIZE, dtype=np.float32), indexing="ij"
)


def _axes(rng, turn=np.pi):
    a = rng.uniform(0, turn)
    x, y = U - SIZE / 2, V - SIZE / 2
    return np.cos(a) * x + np.sin(a) * y, -np.sin(a) * x + np.cos(a) * y


def _seeds(rng, n):
    p = rng.uniform(0, SIZE, (n, 2)).astype(np.float32)
    return np.sort(np.hypot(U[..., None] - p[:, 0], V[..., None] - p[:, 1]), -1)


def _dots(rng, f):
    r, q = _axes(rng)
    return np.sin(f * r) * np.sin(f * q + rng.uniform(0, 6)) > 0.4


TEXTURES = {
    "striped": lambda g, f, p: np.sin(f * _axes(g)[0] + p),
    "checkered": lambda g, f, p: np.sign(np.prod([np.sin(f * a + p) for a in _axes(g)], 0)),
    "dotted": lambda g, f, p: _dots(g, f),
    "ringed": lambda g, f, p: np.sin(f * np.hypot(U - g.uniform(8, 24), V - g.uniform(8, 24)) + p),
    "noisy": lambda g, f, p: g.normal(0, 1, (SIZE, SIZE)),
    "blotchy": lambda g, f, p: low_frequency(g, 7),
    "wavy": lambda g, f, p: (lambda r, q: np.sin(f * r + p + 2 * np.sin(0.4 * q)))(*_axes(g)),
    "cracked": lambda g, f, p: (lambda d: d[..., 1] - d[..., 0] < 1.8)(_seeds(g, 9)),
    "gridded": lambda g, f, p: np.max([np.sin(0.8 * f * a + p) for a in _axes(g)], 0) > 0.75,
    "smooth": lambda g, f, p: np.sin(g.uniform(0.05, 0.12) * _axes(g)[0] + p),
    "scaly": lambda g, f, p: _seeds(g, 24)[..., 0],
    "zigzag": lambda g, f, p: (lambda r, q: np.sin(f * (r + 3 * np.abs((q / 5) % 2 - 1)) + p))(
        *_axes(g)
    ),
}


def texture(name: str, rng, *, grey: bool, noise: float) -> np.ndarray:
    """Return a texture in two colours, uint8 [32, 32, 3]."""
    t = TEXTURES[name](rng, rng.uniform(0.5, 1.1), rng.uniform(0, 6.28)).astype(np.float32)
    t = ((t - t.min()) / (np.ptp(t) + 1e-6))[..., None]
    one, two = contrast(rng)
    if grey:
        one, two = (np.mean(one),) * 3, (np.mean(two),) * 3
    return noisy(t * np.array(one) + (1 - t) * np.array(two), noise, rng)


def _paint(*rgb):
    return np.array(rgb, np.float32)


GRASS, WATER = _paint(70, 110, 55), _paint(40, 70, 130)
SOIL, STONE = _paint(170, 145, 105), _paint(135, 135, 135)
ROOF, SAND = _paint(165, 95, 80), _paint(215, 195, 150)
WOOD, SNOW = _paint(35, 70, 35), _paint(235, 238, 245)


def _ground(rng, paint, depth=40.0, cells=8):
    return paint + (low_frequency(rng, cells)[..., None] - 0.5) * depth


def _on(mask, paint, under):
    return np.where(mask[..., None], paint, under)


def _annual_crop(g):
    r, q = _axes(g)
    tones = np.array([GRASS, SOIL, (GRASS + SOIL) / 2, GRASS * 1.3])
    return tones[((np.floor(r / 9) + 2 * np.floor(q / 9)) % 4).astype(int)]


def _forest(g):
    return _ground(g, WOOD * 1.3, 45, 16)


def _pasture(g):
    return _ground(g, GRASS * 1.35, 30, 4)


def _highway(g):
    r, _ = _axes(g)
    road = np.abs(r + g.uniform(-5, 5)) < 2.2
    return _on(road, STONE * 1.15, _ground(g, (GRASS + SOIL) / 2))


def _industrial(g):
    r, q = _axes(g)
    return _on((r % 13 < 9) & (q % 11 < 8), STONE * 1.5, _ground(g, STONE * 0.75, 20))


def _orchard(g):
    r, q = _axes(g)
    return _on(np.hypot(r % 5 - 2.5, q % 5 - 2.5) < 1.6, WOOD, _ground(g, SOIL))


def _residential(g):
    r, q = _axes(g)
    return _on((r % 6.5 < 3.2) & (q % 6.5 < 3.2), ROOF, _ground(g, GRASS))


def _river(g):
    r, q = _axes(g)
    return _on(np.abs(r + 5 * np.sin(q / 6 + g.uniform(0, 6))) < 3, WATER, _ground(g, GRASS))


def _lake(g):
    r, q = _axes(g)
    wet = np.hypot(r + g.uniform(-3, 3), q) + 8 * low_frequency(g, 6) < 14
    return _on(wet, WATER, _ground(g, GRASS))


def _sea(g):
    return _ground(g, WATER, 18, 12)


LAND = {
    "annual crop": _annual_crop, "forest": _forest, "pasture": _pasture, "highway": _highway,
    "industrial": _industrial, "orchard": _orchard, "residential": _residential, "river": _river,
    "lake": _lake, "sea": _sea,
}  # fmt: skip


def _airport(g):
    r, q = _axes(g)
    a = g.uniform(0.5, 1.0)
    other = np.cos(a) * r + np.sin(a) * q
    runways = (np.abs(r) < 2.5) | (np.abs(other) < 2.0)
    return _on(runways, STONE * 0.65, _ground(g, GRASS * 1.2))


def _baseball(g):
    r, q = _axes(g, 2 * np.pi)
    r, q = r + 9, q + 9
    wedge = (r > 0) & (q > 0) & (np.hypot(r, q) < 22)
    infield = (r > 1.5) & (q > 1.5) & (r < 10) & (q < 10)
    return _on(infield, GRASS * 1.1, _on(wedge, SOIL * 1.05, _ground(g, GRASS * 1.3, 20)))


def _bridge(g):
    r, q = _axes(g)
    under = _on(np.abs(r) < 8, WATER, _ground(g, GRASS))
    return _on(np.abs(q) < 2, STONE * 1.4, under)


def _harbour(g):
    r, q = _axes(g, 2 * np.pi)
    piers = (r < 6) & (r > -9) & (q % 8 < 1.5)
    boats = (np.abs((q % 8) - 4) < 1.2) & ((r + 9) % 6 < 3.4) & (r < 6) & (r > -9)
    return _on(boats, SNOW, _on(piers | (r >= 6), STONE, _ground(g, WATER, 15)))


def _parking(g):
    r, q = _axes(g)
    cars = (r % 4.2 < 2.2) & (q % 8 < 4.5)
    tones = np.array([SNOW, ROOF, WATER, STONE * 0.4])[
        (np.floor(r / 4.2) * 7 + np.floor(q / 8) * 3).astype(int) % 4
    ]
    return np.where(cars[..., None], tones, STONE * 0.8)


def _roundabout(g):
    r, q = _axes(g)
    d = np.hypot(r, q)
    road = ((d > 5) & (d < 9)) | ((np.minimum(np.abs(r), np.abs(q)) < 1.8) & (d > 8))
    return _on(road, STONE * 0.8, _ground(g, GRASS))


def _stadium(g):
    r, q = _axes(g)
    d = np.hypot(r / 1.35, q)
    return _on(
        d < 6.5, GRASS * 1.4, _on(d < 8.5, ROOF * 1.2, _on(d < 11, SNOW * 0.9, _ground(g, STONE)))
    )


def _tanks(g):
    r, q = _axes(g)
    d = np.hypot((r + 1) % 11 - 5.5, (q + 1) % 11 - 5.5)
    return _on(d < 3.6, SNOW, _on(d < 4.6, STONE * 0.5, _ground(g, SOIL)))


def _tennis(g):
    r, q = _axes(g)
    court, r, q = (np.abs(r) < 12) & (np.abs(q) < 7), np.abs(r), np.abs(q)
    lines = court & (
        (np.abs(r - 11) < 0.7) | (np.abs(q - 6) < 0.7) | (r < 0.7) | ((q < 0.7) & (r < 6))
    )
    return _on(lines, SNOW, _on(court, (WATER * 1.3, ROOF)[g.integers(2)], _ground(g, GRASS)))


def _railway(g):
    r, q = _axes(g)
    rails = (np.abs(np.abs(r) - 2) < 0.6) | (np.abs(np.abs(r) - 7) < 0.6)
    sleepers = (q % 3 < 1.2) & ((np.abs(np.abs(r) - 4.5)) < 4.2)
    return _on(rails, STONE * 1.7, _on(sleepers, SOIL * 0.45, _ground(g, SOIL * 0.85)))


AERIAL = {
    "airport": _airport, "baseball field": _baseball, "bridge": _bridge, "harbour": _harbour,
    "parking lot": _parking, "roundabout": _roundabout, "stadium": _stadium,
    "storage tanks": _tanks, "tennis court": _tennis, "railway": _railway,
}  # fmt: skip


def _sky(g, top, low):
    t = (V / SIZE)[..., None]
    return np.array(top, np.float32) * (1 - t) + np.array(low, np.float32) * t


def _day(g):
    return _sky(g, (90, 150, 225), (200, 220, 240))


def _below(height):
    return height < V


def _ridge(g, base, amplitude, power=1.0):
    x, y = np.arange(SIZE), np.zeros(SIZE)
    for f in (1, 2, 4):
        y += np.abs(((x / SIZE * f + g.uniform(0, 2)) % 2) - 1) / f
    return base - amplitude * (y / 1.75) ** power


def _beach(g):
    sea, sand = g.uniform(11, 15), g.uniform(19, 24) + 2 * np.sin(U / 6 + g.uniform(0, 6))
    return _on(_below(sand), SAND, _on(_below(sea), WATER * 1.3, _day(g)))


def _mountain(g):
    ridge = _ridge(g, 27, 24)
    peaks = _on(
        _below(ridge) & (ridge + 4 > V) & (V < 14), SNOW, _on(_below(ridge), STONE * 0.8, _day(g))
    )
    return _on(_below(27), GRASS, peaks)


def _woods(g):
    trunks = (U + g.uniform(0, 6)) % g.uniform(5, 7) < 1.6
    scene = _on(trunks & _below(8), np.array([70, 50, 35]), _ground(g, WOOD * 1.6, 60, 14))
    return _on(_below(27), SOIL * 0.6, scene)


def _city(g):
    heights = np.repeat(g.uniform(6, 22, 8), 4)[:SIZE]
    windows = (U % 4 > 1) & (V % 3 > 1)
    walls = np.where(windows[..., None], np.array([230, 215, 150]), STONE * 0.55)
    sky = _day(g) if g.random() < 0.6 else _sky(g, (25, 25, 60), (90, 60, 90))
    return np.where(_below(heights)[..., None], walls, sky)


def _desert(g):
    dunes = g.uniform(15, 20) + 3 * np.sin(U / g.uniform(4, 7) + g.uniform(0, 6))
    return _on(
        _below(dunes),
        SAND * (0.8 + 0.25 * (U / SIZE)[..., None]),
        _sky(g, (120, 170, 220), (245, 225, 180)),
    )


def _field(g):
    flat = _on(_below(g.uniform(14, 18)), _ground(g, GRASS * 1.4, 25, 10), _day(g))
    rows = _below(18) & (((U - 16) / (V - 12).clip(1) * 6 + g.uniform(0, 2)) % 2 < 0.8)
    return _on(rows, (GRASS * 1.1, np.array([215, 190, 70]))[g.integers(2)], flat)


def _snow(g):
    land = _on(_below(_ridge(g, 20, 8)), SNOW, _sky(g, (150, 165, 190), (215, 220, 230)))
    flakes = g.random((SIZE, SIZE)) < 0.04
    return _on(flakes, np.array([255, 255, 255]), land)


def _night(g):
    stars = g.random((SIZE, SIZE)) < 0.025
    x, y, r = g.uniform(6, 26), g.uniform(5, 12), g.uniform(2.5, 4)
    sky = _on(stars, SNOW, _sky(g, (5, 5, 25), (30, 30, 70)))
    return _on(
        _below(_ridge(g, 31, 8)),
        np.array([10, 12, 15]),
        _on(np.hypot(U - x, V - y) < r, np.array([240, 235, 200]), sky),
    )


def _road(g):
    horizon, centre = g.uniform(11, 15), 16 + g.uniform(-3, 3)
    depth = (V - horizon).clip(0)
    lane = (np.abs(U - centre) < depth * 0.75) & (depth > 0)
    mark = (np.abs(U - centre) < depth * 0.07 + 0.3) & (depth > 0) & ((V + g.integers(6)) % 6 < 4)
    return _on(
        mark,
        SNOW,
        _on(lane, STONE * 0.55, _on(_below(horizon), (GRASS, SOIL)[g.integers(2)] * 1.1, _day(g))),
    )


def _harvest_sunset(g):
    x, y = g.uniform(8, 24), g.uniform(13, 18)
    sky = _on(
        np.hypot(U - x, V - y) < 4.5,
        np.array([255, 230, 120]),
        _sky(g, (90, 60, 120), (250, 140, 60)),
    )
    return _on(
        _below(g.uniform(19, 23)), np.array([60, 35, 60]) + 40 * np.sin(V)[..., None].clip(0), sky
    )


SCENES = {
    "beach": _beach, "mountain": _mountain, "woods": _woods, "city": _city, "desert": _desert,
    "field": _field, "snow": _snow, "night": _night, "road": _road, "sunset": _harvest_sunset,
}  # fmt: skip


def view(picture, rng, *, plain: bool, noise: float) -> np.ndarray:
    """Return a land, aerial or landscape picture, uint8 [32, 32, 3].

    `plain` gives the map-like rendering of the pre-training world: no weather, little noise.
    """
    pixels = np.asarray(picture(rng), dtype=np.float32)
    if not plain:
        light = rng.uniform(0.65, 1.2) * (1 + 0.12 * rng.standard_normal(3))
        haze = rng.uniform(0, 0.25)
        cloud = (low_frequency(rng, 5)[..., None] - 0.55).clip(0) * rng.uniform(0, 250)
        pixels = (pixels * light) * (1 - haze) + 190 * haze + cloud
    return noisy(pixels, noise, rng)


def tissue(tumour: bool, rng, *, noise: float) -> np.ndarray:
    """Return stained tissue: tumour tissue has larger, darker, crowded, uneven nuclei."""
    stain = np.array([225, 165, 200]) * rng.uniform(0.85, 1.1, 3)
    pixels = _ground(rng, stain, 50, 9)
    for _ in range(rng.integers(14, 20) if tumour else rng.integers(9, 15)):
        x, y, turn = *rng.uniform(0, SIZE, 2), rng.uniform(0, np.pi)
        big = rng.uniform(2.0, 3.6) if tumour else rng.uniform(1.6, 2.5)
        small = big * (rng.uniform(0.45, 1.0) if tumour else rng.uniform(0.8, 1.0))
        r = np.cos(turn) * (U - x) + np.sin(turn) * (V - y)
        q = -np.sin(turn) * (U - x) + np.cos(turn) * (V - y)
        nucleus = np.array([85, 45, 130]) * rng.uniform(0.75, 1.15) * (0.85 if tumour else 1.1)
        pixels = _on((r / big) ** 2 + (q / small) ** 2 < 1, nucleus, pixels)
    return noisy(pixels, noise, rng)
