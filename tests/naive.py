"""Loop-only float64 twins of every formula, written from the papers and not from the fast code.

Plain Python lists and `math`: slow, obvious, and independent of torch.
"""

import math


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def unit(a):
    length = math.sqrt(dot(a, a))
    return [x / length for x in a]


def cosine(a, b):
    return dot(unit(a), unit(b))


# --- similarity, centroids, relabeling, sampling (method.md 5-6) ---


def nearest(features, centroids, own=None, feature_groups=None, centroid_groups=None):
    """Rows of (index, similarity, own similarity, other index, other similarity)."""
    out = []
    for i, f in enumerate(features):
        best, other, mine = (-1, -math.inf), (-1, -math.inf), -math.inf
        for k, mu in enumerate(centroids):
            if feature_groups is not None and feature_groups[i] != centroid_groups[k]:
                continue
            s = cosine(f, mu)
            if own is not None and own[i] == k:
                mine = s
            elif s > other[1] + 1e-12:
                other = (k, s)
        best = other
        if own is not None and mine > -math.inf and mine >= other[1] - 1e-12:
            best = (own[i], mine)
        out.append((*best, mine, *other))
    return out


def pairs_above(centroids, threshold, groups=None):
    pairs = []
    for i in range(len(centroids)):
        for j in range(i + 1, len(centroids)):
            if groups is not None and groups[i] != groups[j]:
                continue
            if cosine(centroids[i], centroids[j]) >= threshold - 1e-12:
                pairs.append((i, j))
    return pairs


def component_roots(count, pairs):
    """Breadth-first search from the smallest index not yet reached."""
    roots = [-1] * count
    for seed in range(count):
        if roots[seed] >= 0:
            continue
        roots[seed], frontier = seed, [seed]
        while frontier:
            node = frontier.pop(0)
            for i, j in pairs:
                for here, there in ((i, j), (j, i)):
                    if here == node and roots[there] < 0:
                        roots[there] = seed
                        frontier.append(there)
    return roots


def ema_centroids(labels, centroids, features, feature_labels, alpha):
    """Eq. 3: mu_k <- alpha mu_k + (1 - alpha) mean of k's features."""
    out = []
    for label, mu in zip(labels, centroids, strict=True):
        mine = [f for f, y in zip(features, feature_labels, strict=True) if y == label]
        if mine:
            mean = [sum(column) / len(mine) for column in zip(*mine, strict=True)]
            mu = [alpha * a + (1 - alpha) * b for a, b in zip(mu, mean, strict=True)]
        out.append(list(mu))
    return out


def merged_centroids(labels, centroids, mapping, counts=None):
    out = {}
    for root in sorted(set(mapping)):
        rows = [i for i in range(len(labels)) if mapping[i] == root]
        weights = [1 if counts is None else counts[i] for i in rows]
        if sum(weights) == 0:
            weights = [1] * len(rows)
        out[root] = [
            sum(w * centroids[i][d] for w, i in zip(weights, rows, strict=True)) / sum(weights)
            for d in range(len(centroids[0]))
        ]
    return out


def multi_centroids(features, labels, camids):
    """p_y = mean of the features of y; q_{y,c} = unit mean of those in camera c."""
    p, q = {}, {}
    for y in sorted(set(labels) - {-1}):
        mine = [i for i in range(len(labels)) if labels[i] == y]
        p[y] = [sum(features[i][d] for i in mine) / len(mine) for d in range(len(features[0]))]
        for c in sorted({camids[i] for i in mine}):
            seen = [i for i in mine if camids[i] == c]
            mean = [sum(features[i][d] for i in seen) / len(seen) for d in range(len(features[0]))]
            q[y, c] = unit(mean)
    return p, q


def relabel(
    features, labels, memory_labels, centroids, tau_rel, tau_remove, reading, videos=None, cvideos=None
):
    """(label, removed, similarity) of each image; one image at a time."""
    out = []
    for i, (f, y) in enumerate(zip(features, labels, strict=True)):
        j, s, own = None, -math.inf, -math.inf
        for k, mu in zip(memory_labels, centroids, strict=True):
            if videos is not None and videos[i] != cvideos[memory_labels.index(k)]:
                continue
            c = cosine(f, mu)
            if k == y:
                own = c
                if reading == "others":
                    continue
            if c > s + 1e-12 or (k == y and c >= s - 1e-12):
                j, s = k, c
        moves = j is not None and j != y and s > tau_rel
        if reading == "own_filter":
            decided, removed = (s, False) if moves else (own, own < tau_remove)
        else:
            decided, removed = s, s < tau_remove
        if removed:
            out.append((y, True, decided))
        else:
            out.append((j if moves else y, False, decided))
    return out


def pair_costs(similarity, mode, target):
    """The cost matrix of the assignment, |S - t|, -S or S."""

    def center(values):
        values = sorted(values)
        if mode == "mean":
            return sum(values) / len(values)
        half = len(values) // 2
        return values[half] if len(values) % 2 else (values[half - 1] + values[half]) / 2

    if mode == "hard":
        return [[-s for s in row] for row in similarity]
    if mode == "soft":
        return [list(row) for row in similarity]
    if target == "row":
        return [[abs(s - center(row)) for s in row] for row in similarity]
    t = center([s for row in similarity for s in row])
    return [[abs(s - t) for s in row] for row in similarity]


def least_assignment(costs):
    """The least total cost over all injective choices of a column per row."""
    best = math.inf

    def descend(row, used, total):
        nonlocal best
        if row == len(costs):
            best = min(best, total)
            return
        for column, cost in enumerate(costs[row]):
            if column not in used:
                descend(row + 1, used | {column}, total + cost)

    descend(0, frozenset(), 0.0)
    return best


def queue_after(queue, pool, existing, picks, capacity, needed):
    """Replay the FIFO over the picked PIDs of each batch; asserts that each pick was allowed."""
    kept = []
    for pid in reversed(queue):  # the newest duplicate stays
        if pid in existing and pid not in kept:
            kept.append(pid)
    queue = list(reversed(kept[:capacity]))
    for pick in picks:
        while len([p for p in pool if p not in queue]) < needed:
            queue.pop(0)
        candidates = [p for p in pool if p not in queue]
        assert len(set(pick)) == len(pick) and all(p in candidates for p in pick), (pick, candidates)
        queue.extend(pick)
        while len(queue) > capacity:
            queue.pop(0)
    return queue


# --- views (data/views.py), written from method.md section 2 and 7 (e)


def view(image, dy, dx, flip, sigma, gray):
    """Shift (black outside), flip, blur with reflected borders, gray; `image` is [channel][row][column]."""
    height, width = len(image[0]), len(image[0][0])
    shifted = [[[0.0] * width for _ in range(height)] for _ in range(3)]
    for c in range(3):
        for i in range(height):
            for j in range(width):
                y, x = i + dy, (width - 1 - j if flip else j) + dx
                if 0 <= y < height and 0 <= x < width:
                    shifted[c][i][j] = float(image[c][y][x])
    blurred = [_blur_both_axes(channel, sigma) for channel in shifted] if sigma > 0 else shifted
    if not gray:
        return blurred
    red, green, blue = blurred
    luma = [
        [0.2989 * red[i][j] + 0.587 * green[i][j] + 0.114 * blue[i][j] for j in range(width)]
        for i in range(height)
    ]
    return [luma, luma, luma]


def _blur_both_axes(channel, sigma):
    radius = max(1, math.ceil(3 * sigma))
    weights = [math.exp(-0.5 * (d / sigma) ** 2) for d in range(-radius, radius + 1)]
    total = sum(weights)
    height, width = len(channel), len(channel[0])
    out = [[0.0] * width for _ in range(height)]
    for i in range(height):
        for j in range(width):
            for di in range(-radius, radius + 1):
                for dj in range(-radius, radius + 1):
                    y, x = _reflect(i + di, height), _reflect(j + dj, width)
                    share = weights[di + radius] * weights[dj + radius] / total**2
                    out[i][j] += share * channel[y][x]
    return out


def _reflect(at, length):
    if at < 0:
        return -at
    return 2 * (length - 1) - at if at >= length else at


# Encoders: IBN (Pan et al. 2018), the neck, the momentum update (Eq. 2).


def standardized(values, eps=1e-5):
    mean = sum(values) / len(values)
    variance = sum((v - mean) ** 2 for v in values) / len(values)
    return [(v - mean) / math.sqrt(variance + eps) for v in values]


def ibn(images, weight, bias):
    """images[b][c][p], pixels in one list; the first half of the channels per image, the rest per batch."""
    count, channels = len(images), len(images[0])
    out = [[None] * channels for _ in images]
    for c in range(channels):
        if c < channels // 2:
            rows = [standardized(images[b][c]) for b in range(count)]
        else:
            flat = standardized([v for b in range(count) for v in images[b][c]])
            pixels = len(images[0][c])
            rows = [flat[b * pixels : (b + 1) * pixels] for b in range(count)]
        for b in range(count):
            out[b][c] = [weight[c] * v + bias[c] for v in rows[b]]
    return out


def centered(features):
    columns = [standardized(list(column)) for column in zip(*features, strict=True)]
    return [list(row) for row in zip(*columns, strict=True)]


def momentum_update(momentum, encoder, decay):
    return [decay * m + (1 - decay) * e for m, e in zip(momentum, encoder, strict=True)]


# --- losses (method.md 3.1-3.4) ---


def negative_log(positive, others):
    """-log [ e^positive / (e^positive + sum of e^others) ], shifted so that nothing overflows."""
    top = max([positive, *others])
    return -math.log(math.exp(positive - top) / sum(math.exp(s - top) for s in [positive, *others]))


def mean_or_zero(values):
    return sum(values) / len(values) if values else 0.0


def instance_loss(
    f, m, labels, single, tau_multi=0.1, tau_single=0.2, negatives="mixed", denominator="one_pos",
    include_self=True,
):  # fmt: skip
    anchors = []
    for i in range(len(f)):
        tau = tau_single if single[i] else tau_multi
        s = [cosine(f[i], m[j]) / tau for j in range(len(m))]
        P = [j for j in range(len(m)) if labels[j] == labels[i] and (include_self or j != i)]
        N = [j for j in range(len(m)) if labels[j] != labels[i]]
        if negatives == "same_type":
            N = [j for j in N if single[j] == single[i]]
        if not P or (denominator == "one_pos" and not N):
            continue
        total = 0.0
        for j in P:
            rest = [s[k] for k in N]
            if denominator == "all_pos":
                rest += [s[k] for k in P if k != j]
            total += negative_log(s[j], rest)
        anchors.append(total / len(P))
    return mean_or_zero(anchors)


def augmentation_loss(f, m0, labels, single=None, tau=0.1, negatives="mixed"):
    anchors = []
    for i in range(len(f)):
        N = [j for j in range(len(m0)) if labels[j] != labels[i]]
        if negatives == "same_type":
            N = [j for j in N if single[j] == single[i]]
        if N:
            a = [cosine(f[i], m0[j]) / tau for j in range(len(m0))]
            anchors.append(negative_log(a[i], [a[j] for j in N]))
    return mean_or_zero(anchors)


def centroids_loss(
    f, labels, single, p, p_labels, tau_multi=0.5, tau_single=0.6, feature="raw", centroid="asis",
    scope="batch",
):  # fmt: skip
    anchors = []
    for i in range(len(f)):
        tau = tau_single if single[i] else tau_multi
        logits = {}
        for y, mu in zip(p_labels, p, strict=True):
            if scope == "all" or y in labels:
                left = unit(f[i]) if feature == "unit" else f[i]
                right = unit(mu) if centroid == "unit" else mu
                logits[y] = dot(left, right) / tau
        if labels[i] in logits:
            mine = logits.pop(labels[i])
            anchors.append(negative_log(mine, list(logits.values())))
    return mean_or_zero(anchors)


def camera_centroids_loss(
    f, labels, camids, q, q_labels, q_camids, tau=0.07, hard_negatives=50, exclude_own=False,
    denominator="joint", reduction="mean",
):  # fmt: skip
    by_camera = {}
    for i in range(len(f)):
        s = [cosine(f[i], row) / tau for row in q]
        P = [k for k in range(len(q)) if q_labels[k] == labels[i]]
        if exclude_own:
            P = [k for k in P if q_camids[k] != camids[i]]
        N = sorted((s[k] for k in range(len(q)) if q_labels[k] != labels[i]), reverse=True)[:hard_negatives]
        if not P or (denominator == "per_positive" and not N):
            continue
        total = 0.0
        for k in P:
            others = [s[j] for j in P if j != k] if denominator == "joint" else []
            total += negative_log(s[k], others + N)
        by_camera.setdefault(camids[i], []).append(total / len(P))
    if reduction == "camera_sum":
        return sum(mean_or_zero(values) for values in by_camera.values())
    return mean_or_zero([value for values in by_camera.values() for value in values])


# --- evaluation (method.md 8, datasets.md 2) ---


def ranking(query, gallery, query_pid, gallery_pids, query_camid, gallery_camids):
    """Gallery rows of one query, best first, junk and the query's own camera deleted; stable in ties."""
    kept = [
        g
        for g in range(len(gallery))
        if gallery_pids[g] != -1 and not (gallery_pids[g] == query_pid and gallery_camids[g] == query_camid)
    ]
    return sorted(kept, key=lambda g: -cosine(query, gallery[g]))


def evaluate(
    queries, gallery, query_pids, gallery_pids, query_camids, gallery_camids, max_rank=50,
    average_precision="step",
):  # fmt: skip
    """(cmc, mAP, mINP, valid queries) from full sorts."""
    cmc, aps, inps = [0] * max_rank, [], []
    for q in range(len(queries)):
        order = ranking(queries[q], gallery, query_pids[q], gallery_pids, query_camids[q], gallery_camids)
        good = [gallery_pids[g] == query_pids[q] for g in order]
        if not any(good):
            continue
        ap, hits, last, recall, precision = 0.0, 0, 0, 0.0, 1.0
        for rank, correct in enumerate(good, start=1):
            hits += correct
            if average_precision == "step":
                ap += correct * hits / rank / sum(good)
            else:  # the original Market-1501 code, rank by rank
                ap += (hits / sum(good) - recall) * (precision + hits / rank) / 2
                recall, precision = hits / sum(good), hits / rank
            last = rank if correct else last
        aps.append(ap)
        inps.append(sum(good) / last)
        for r in range(max_rank):
            cmc[r] += any(good[: r + 1])
    return [c / len(aps) for c in cmc], sum(aps) / len(aps), sum(inps) / len(inps), len(aps)


def label_quality(labels, truth):
    """Pairwise (precision, recall, f1) over all pairs of rows with both known."""
    rows = [i for i in range(len(labels)) if labels[i] >= 0 and truth[i] >= 0]
    both = said = true = 0
    for a in range(len(rows)):
        for b in range(a + 1, len(rows)):
            i, j = rows[a], rows[b]
            said += labels[i] == labels[j]
            true += truth[i] == truth[j]
            both += labels[i] == labels[j] and truth[i] == truth[j]
    precision, recall = both / said if said else 0.0, both / true if true else 0.0
    return precision, recall, 2 * precision * recall / (precision + recall) if both else 0.0
