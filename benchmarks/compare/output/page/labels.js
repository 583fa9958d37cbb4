// ---- names beside points, none over another ------------------------------------------------------------------------

const apart = (a, b) => a.x + a.width <= b.x || b.x + b.width <= a.x || a.y + a.height <= b.y || b.y + b.height <= a.y;

/** Places around a point for a box of this size, the nearest first, those to the right of it before others. */
function* placesAround(point, width, height) {
    for (const radius of [9, 16, 26, 38, 52, 68, 86, 106, 130, 156]) {
        const steps = radius < 20 ? 8 : 20;
        for (let i = 0; i < steps; ++i) {
            // 0, 1, -1, 2, -2 ... turns away from the right
            const turn = ((i % 2 === 0 ? -1 : 1) * Math.ceil(i / 2) * 2 * Math.PI) / steps;
            const [cos, sin] = [Math.cos(turn), Math.sin(turn)];
            const x = point.x + radius * cos + (cos > 0.3 ? 0 : cos < -0.3 ? -width : -width / 2);
            const y = point.y + radius * sin + (sin > 0.3 ? 0 : sin < -0.3 ? -height : -height / 2);
            yield { x, y, width, height, radius };
        }
    }
}

/** The line from a point to the nearest place of its name, and small boxes along it. */
function leader(point, place) {
    const x = Math.max(place.x, Math.min(point.x, place.x + place.width));
    const y = Math.max(place.y, Math.min(point.y, place.y + place.height));
    const length = Math.hypot(x - point.x, y - point.y) || 1;
    const from = { x: point.x + ((x - point.x) * 7) / length, y: point.y + ((y - point.y) * 7) / length };
    const boxes = Array.from({ length: Math.ceil(length / 4) }, (_, i) => {
        const part = (4 * i) / length;
        return { x: from.x + (x - from.x) * part - 1, y: from.y + (y - from.y) * part - 1, width: 2, height: 2 };
    });
    return { x1: from.x, y1: from.y, x2: x, y2: y, boxes: place.radius > 9 ? boxes : [] };
}

/**
 * Names of points {x, y, name, first}: each at the nearest place where it touches no other name, no point and none of the
 * boxes `texts`, and none of the boxes `lines` if there is such a place. A thin leader joins what is further away; it
 * crosses no name, and no point or leader where that can be helped.
 */
function labelPoints(area, points, texts, lines) {
    const dots = points.map((point) => ({ x: point.x - 7, y: point.y - 7, width: 14, height: 14 }));
    const names = [...texts];
    const leaders = [];
    const inside = (box) =>
        box.x >= area.left + 2 && box.x + box.width <= area.width - 2 &&
        box.y >= area.top && box.y + box.height <= area.bottom;
    const clear = (boxes, others) => boxes.every((box) => others.every((other) => apart(box, other)));
    // those that say so choose first, then the crowded ones
    const crowd = (point) => points.filter((other) => Math.hypot(other.x - point.x, other.y - point.y) < 60).length;
    for (const point of [...points].sort((a, b) => (b.first ?? 0) - (a.first ?? 0) || crowd(b) - crowd(a))) {
        const node = text(area, 0, 0, point.name, { class: "name" });
        const size = node.getBBox();
        const others = points.filter((other) => other !== point)
            .map((other) => ({ x: other.x - 4, y: other.y - 4, width: 8, height: 8 }));
        const fits = (box, avoided, crossed) =>
            inside(box) && clear([box], [...dots, ...names, ...leaders, ...avoided]) &&
            clear(leader(point, box).boxes, [...names, ...crossed]);
        const places = [...placesAround(point, size.width + 4, size.height)];
        // what is given up first where there is no room: distance to the lines, then to leaders, then to points
        const wishes = [[lines, [...others, ...leaders]], [[], [...others, ...leaders]], [[], others], [[], []]];
        const place = wishes.map((wish) => places.find((box) => fits(box, ...wish))).find((found) => found);
        if (!place) {
            node.remove();  // its point still tells its name, as does the table
            continue;
        }
        names.push(place);
        node.setAttribute("x", place.x + 2);
        node.setAttribute("y", place.y - size.y);
        const { boxes, ...line } = leader(point, place);
        if (boxes.length > 0) {
            leaders.push(...boxes);
            area.root.append(svg("line", { class: "leader", ...line }));
        }
    }
}

/** Heights for names beside the ends of lines: as near to `wanted` as `step` between neighbours and the range allow. */
function spread(wanted, step, low, high) {
    const order = wanted.map((_, i) => i).sort((a, b) => wanted[a] - wanted[b]);
    const placed = [...wanted];
    let reached = low - step;
    for (const i of order) {
        placed[i] = Math.max(wanted[i], reached + step);
        reached = placed[i];
    }
    let limit = high + step;
    for (const i of order.reverse()) {
        placed[i] = Math.min(placed[i], limit - step);
        limit = placed[i];
    }
    return placed;
}

/** `content`, cut with an ellipsis where it is wider than `width`. */
function fitted(node, content, width) {
    node.textContent = content;
    for (let length = content.length - 1; length > 1 && node.getComputedTextLength() > width; --length) {
        node.textContent = `${content.slice(0, length)}\u2026`;
    }
}
