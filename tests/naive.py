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


# --- similarity, centroids, relabeling, sampling ---


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


# --- views (data/views.py)


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


# --- losses ---


def negative_log(positive, others):
    """-log [ e^positive / (e^positive + sum of e^others) ], shifted so that nothing overflows."""
    top = max([positive, *others])
    return math.log(sum(math.exp(s - top) for s in [positive, *others])) - (positive - top)


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


# --- evaluation ---


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


# --- the epoch's refresh, everything in memory ---


def _eq3(memory, added, alpha, renorm):
    """Eq. 3 for every PID that got features; `added` is a list of (pid, feature)."""
    out = {}
    for pid, old in memory.items():
        mine = [f for p, f in added if p == pid]
        new = list(old)
        if mine:
            mean = [sum(column) / len(mine) for column in zip(*mine, strict=True)]
            new = [alpha * a + (1 - alpha) * b for a, b in zip(old, mean, strict=True)]
            new = unit(new) if renorm else new
        out[pid] = new
    return out


def _decide(feature, own, scores, reading, tau_rel, tau_remove):
    """(label, removed) of one image; `scores` maps the PIDs it may be compared with to cosines."""
    foreign = {pid: s for pid, s in scores.items() if pid != own}
    best = max(foreign, key=foreign.get) if foreign else None
    mine, other = scores.get(own, -math.inf), foreign.get(best, -math.inf)
    if reading == "own_filter":
        if other > mine and other > tau_rel:
            return best, False
        return own, mine < tau_remove
    if reading == "all" and mine >= other:
        return own, mine < tau_remove
    if other < tau_remove:
        return own, True
    return (best, False) if other > tau_rel else (own, False)


def _groups(memory, videos, tau, scope):
    """PID -> smallest PID of its connected component in the graph of cosines >= tau."""
    root = {pid: pid for pid in memory}
    changed = True
    while changed:
        changed = False
        for a in memory:
            for b in memory:
                joined = cosine(memory[a], memory[b]) >= tau and (scope == "global" or videos[a] == videos[b])
                if joined and root[a] != root[b]:
                    root[a] = root[b] = min(root[a], root[b])
                    changed = True
    return root


def _quantile(values, q):
    values = sorted(values)
    at = q * (len(values) - 1)
    low = math.floor(at)
    high = min(low + 1, len(values) - 1)
    return values[low] + (at - low) * (values[high] - values[low])


def _cross_video_taus(memory, videos):
    values = [
        cosine(memory[a], memory[b]) for a in memory for b in memory if a < b and videos[a] != videos[b]
    ]
    return _quantile(values, 0.99), _quantile(values, 0.999)


def first_memory(labels, drawn, features, renorm=False):
    """The first epoch: mean of the drawn features."""
    size = len(next(iter(features.values())))
    zero = {pid: [0.0] * size for pid in sorted(set(labels.values()))}
    return _eq3(zero, [(labels[row], features[row]) for row in drawn], 0.0, renorm)


def refresh(state, tracker, video_of, drawn, features, epoch, o):
    """One epoch over the labeled single-camera rows.

    `state`: labels {row: pid}, memory {pid: centroid} or None, videos {pid: video}, queue [pids];
    `tracker` {row: original pid}; `video_of` {row: video}; `drawn` rows; `features` {row: unit vector};
    `o`: the options as a dict. Returns (state, what the epoch trains with).
    """
    labels = dict(tracker if o["reset"] else state["labels"])
    alpha = 0.0 if o["naive"] else o["alpha"]
    videos = dict(state["videos"])
    if state["memory"] is None:
        videos = {pid: video_of[row] for row, pid in tracker.items()}
        memory = first_memory(labels, drawn, features, o["renorm"])
    elif not o["on"] or epoch < o["start_epoch"]:
        added = [(labels[row], features[row]) for row in drawn]
        memory = _eq3(state["memory"], added, alpha, o["renorm"])
    else:
        return _refined(state, labels, video_of, drawn, features, alpha, videos, o)
    queue = _newest([pid for pid in state["queue"] if pid in memory])
    view = {"labels": labels, "removed": set(), "memory": memory, "queue": queue, "report": None}
    return {"labels": labels, "memory": memory, "videos": videos, "queue": queue}, view


def _refined(state, labels, video_of, drawn, features, alpha, videos, o):
    memory = state["memory"]
    tau_rel, tau_remove, tau_merge = o["tau_rel"], o["tau_remove"], o["tau_merge"]
    if o["calibrate"]:
        tau_rel, tau_merge = _cross_video_taus(memory, videos)
        tau_remove = min(tau_remove, tau_rel)
    compared = memory
    if o["compare"] == "blended":
        compared = _eq3(memory, [(labels[row], features[row]) for row in drawn], alpha, o["renorm"])
    refined, removed = dict(labels), set()
    for row in drawn:
        scores = {
            pid: cosine(features[row], mu)
            for pid, mu in compared.items()
            if o["scope"] == "global" or videos[pid] == video_of[row]
        }
        refined[row], gone = _decide(features[row], labels[row], scores, o["reading"], tau_rel, tau_remove)
        if gone:
            removed.add(row)
    used = [row for row in drawn if row not in removed]
    unmerged = _eq3(memory, [(refined[row], features[row]) for row in used], alpha, o["renorm"])
    counts = {pid: sum(p == pid for p in refined.values()) for pid in set(refined.values())}
    source = unmerged if o["before_merge"] else memory
    live = {pid: mu for pid, mu in source.items() if pid in counts}
    root = _groups(live, videos, tau_merge, o["scope"])
    merged = {}
    for r in sorted(set(root.values())):
        members = [pid for pid in live if root[pid] == r]
        weight = {pid: counts[pid] if o["merge_centroid"] == "weighted" else 1 for pid in members}
        merged[r] = [
            sum(weight[pid] * live[pid][d] for pid in members) / sum(weight.values())
            for d in range(len(live[r]))
        ]
    final = {row: root[pid] for row, pid in refined.items()}
    if not o["before_merge"]:
        merged = _eq3(merged, [(final[row], features[row]) for row in used], alpha, o["renorm"])
    queue = _newest([root[pid] for pid in state["queue"] if pid in root])
    found = {
        "images_before": len(labels),
        "images_after": len(labels) - len(removed),
        "pids_before": len(set(labels.values())),
        "pids_after": len({final[row] for row in final if row not in removed}),
        "relabeled": sum(refined[row] != labels[row] for row in labels),
        "removed": len(removed),
        "merged": len(live) - len(merged),
        "largest_component": max(sum(r == x for x in root.values()) for r in merged),
    }
    view = {"labels": final, "removed": removed, "memory": merged, "queue": queue, "report": found}
    if o["reset"]:  # the tracker's labels start afresh, so its PIDs keep their own centroids
        return {"labels": labels, "memory": unmerged, "videos": videos, "queue": queue}, view
    kept = {pid: videos[pid] for pid in merged}
    return {"labels": final, "memory": merged, "videos": kept, "queue": queue}, view


def _newest(queue):
    """Each PID once, where its newest entry stood; oldest first."""
    return [pid for i, pid in enumerate(queue) if pid not in queue[i + 1 :]]


# --- agreement of a table's order with the paper's, by definition ---


def tau_b(x, y):
    """(concordant - discordant) / sqrt((pairs - ties in x) (pairs - ties in y))."""
    concordant = discordant = untied_x = untied_y = 0
    for i in range(len(x)):
        for j in range(i):
            untied_x += x[i] != x[j]
            untied_y += y[i] != y[j]
            if x[i] != x[j] and y[i] != y[j]:
                same = (x[i] > x[j]) == (y[i] > y[j])
                concordant, discordant = concordant + same, discordant + (not same)
    return (concordant - discordant) / math.sqrt(untied_x * untied_y)


def order_chance(x, y):
    """Share of all orders of y that agree with x at least as much as y does."""
    from itertools import permutations

    reached = [tau_b(x, order) for order in permutations(y)]
    return sum(tau >= tau_b(x, y) - 1e-9 for tau in reached) / len(reached)


def tau_within(x, y, groups):
    """tau_b with pairs of one group alone."""
    concordant = discordant = untied_x = untied_y = 0
    for i in range(len(x)):
        for j in range(i):
            if groups[i] == groups[j]:
                untied_x += x[i] != x[j]
                untied_y += y[i] != y[j]
                if x[i] != x[j] and y[i] != y[j]:
                    same = (x[i] > x[j]) == (y[i] > y[j])
                    concordant, discordant = concordant + same, discordant + (not same)
    return (concordant - discordant) / math.sqrt(untied_x * untied_y)


def order_chance_within(x, y, groups):
    """Share of all orders that leave every row in its group and agree with x at least as much as y does."""
    from itertools import permutations

    places = range(len(x))
    legal = [o for o in permutations(places) if all(groups[o[i]] == groups[i] for i in places)]
    reached = [tau_within(x, [y[i] for i in order], groups) for order in legal]
    return sum(tau >= tau_within(x, y, groups) - 1e-9 for tau in reached) / len(reached)


def sample_std(values):
    mean = sum(values) / len(values)
    return math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))


# --- ReMix: clusters of one video, and one epoch's pseudo-labels ---


def squared(a, b):
    return sum((x - y) ** 2 for x, y in zip(a, b, strict=True))


def euclidean_distances(features):
    return [[math.sqrt(squared(a, b)) for b in features] for a in features]


def cosine_distances(features):
    return [[1 - cosine(a, b) for b in features] for a in features]


def dbscan(distances, eps, min_samples):
    """(cores, allowed): whether each row is a core, and which clusters it may belong to; none is noise.

    Clusters are numbered by their first core; a border row may go to any cluster that reaches it.
    """
    count = len(distances)
    near = [[j for j in range(count) if distances[i][j] <= eps] for i in range(count)]
    cores = [len(near[i]) >= min_samples for i in range(count)]
    links = [(i, j) for i in range(count) for j in near[i] if cores[i] and cores[j]]
    roots = component_roots(count, links)
    first = sorted({roots[i] for i in range(count) if cores[i]})
    return cores, [{first.index(roots[j]) for j in near[i] if cores[j]} for i in range(count)]


def jaccard_distances(features, k1, k2):
    """Zhong et al. 2017: N(i, k), R(i, k), R*(i, k1), V_i, its mean over N(i, k2), and 1 - min / max."""
    rows = range(len(features))

    def nearest_others(i, k):
        others = sorted((j for j in rows if j != i), key=lambda j: squared(features[i], features[j]))
        return [i, *others[:k]]  # nothing is nearer than the image itself

    def reciprocal(i, k):
        return {j for j in nearest_others(i, k) if i in nearest_others(j, k)}

    weights = []
    for i in rows:
        mutual = reciprocal(i, k1)
        expanded = set(mutual)
        for j in mutual:
            theirs = reciprocal(j, round(k1 / 2))
            if 3 * len(theirs & mutual) > 2 * len(theirs):
                expanded |= theirs
        raw = [math.exp(-squared(features[i], features[j])) if j in expanded else 0.0 for j in rows]
        weights.append([value / sum(raw) for value in raw])
    averaged = []
    for i in rows:
        group = nearest_others(i, k2 - 1)
        averaged.append([sum(weights[j][column] for j in group) / len(group) for column in rows])
    return [
        [
            1
            - sum(min(a, b) for a, b in zip(averaged[i], averaged[j], strict=True))
            / sum(max(a, b) for a, b in zip(averaged[i], averaged[j], strict=True))
            for j in rows
        ]
        for i in rows
    ]


def remix_labels(order, rows_of, features, fresh, wanted, clusters_of):
    """Algorithm 2: ({row: label} of the drawn videos, {label: mean feature}).

    `order` of the videos; `rows_of` {video: rows}; `clusters_of` rows -> cluster of each, -1 for noise.
    """
    labels, means, counter = {}, {}, 0
    for video in order:
        if counter >= wanted:
            break
        found = clusters_of(rows_of[video])
        numbers = {}
        for cluster in sorted(set(found) - {-1}):
            mine = [row for row, c in zip(rows_of[video], found, strict=True) if c == cluster]
            means[fresh] = [
                sum(column) / len(mine) for column in zip(*(features[r] for r in mine), strict=True)
            ]
            numbers[cluster], fresh = fresh, fresh + 1
            counter += len(mine)
        labels |= {row: numbers.get(c, -1) for row, c in zip(rows_of[video], found, strict=True)}
    return labels, means


# --- pre-training ---


def contrast(queries, keys, queue, tau):
    """He et al. 2020, Eq. 1."""
    return mean_or_zero(
        [
            negative_log(dot(q, k) / tau, [dot(q, other) / tau for other in queue])
            for q, k in zip(queries, keys, strict=True)
        ]
    )
