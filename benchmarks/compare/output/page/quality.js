// ---- quality against compute ---------------------------------------------------------------------------------------

/** Causal rows that no causal row beats on both, by rising compute. */
function frontier(rows) {
    const order = rows.filter((row) => row.causal).sort((a, b) => a.compute - b.compute || a.nll - b.nll);
    let best = Infinity;
    return order.filter((row) => row.nll < best && (best = row.nll, true));
}

/** Halves of the experts where they spread over several, else round shares. */
function computeAxis(rows) {
    const shares = rows.map((row) => row.compute);
    const low = Math.min(...shares);
    const high = Math.max(...shares);
    if (low <= 0 || high / low < 3) {
        const [from, to] = padded(shares, 0.08);
        return { from: Math.max(0, from), to, scale: linearScale, ticks: linearTicks(Math.max(0, from), to) };
    }
    const [from, to] = padded(shares, 0.07, true);
    const ticks = Array.from({ length: 12 }, (_, i) => 2 ** (i - 11)).filter((tick) => tick >= from && tick <= to);
    return { from, to, scale: logScale, ticks };
}

/** Above which a row would press all others together: far from the best, as seen from where half of them are. */
function farLimit(rows) {
    const order = rows.map((row) => row.nll).sort((a, b) => a - b);
    const usual = order[Math.ceil((order.length - 1) / 2)] - order[0];
    return usual > 0 && order[order.length - 1] > order[0] + 4 * usual ? order[0] + 3 * usual : Infinity;
}

/** A band at the top for the rows above the limit, each in a line of its own, its name in the lowest one. */
function farBand(area, far, height) {
    const order = [...far].sort((a, b) => b.nll - a.nll);
    const place = (row) => area.top + 10 + 20 * order.indexOf(row);
    if (far.length === 0) {
        return { place, names: [] };
    }
    const y = area.top + height;
    const line = { x1: area.left, x2: area.right, y1: y, y2: y };
    area.root.append(svg("line", { class: "axis", "stroke-dasharray": "4 4", ...line }));
    return { place, names: [text(area, area.right, y - 6, "above this scale", { "text-anchor": "end" }).getBBox()] };
}

function qualityMark(area, row, px, py, far, beaten) {
    const style = row.causal ? { fill: "var(--c0)", stroke: "var(--surface)", "stroke-width": 1.5 }
                             : { fill: "var(--surface)", stroke: "var(--c1)", "stroke-width": 2 };
    const shape = far ? "triangle" : row.causal ? "circle" : "diamond";
    const node = svg("path", { d: shapePath(shape, px, py, row.causal ? 5.5 : 4.5), ...style });
    area.root.append(node);
    const name = far ? `${row.strategy}, ${figure(row.nll)}` : row.strategy;
    return { node, x: px, y: py, name, first: far ? 1 : 0, title: row.strategy, lines: [
        ["nats a byte", nats(row.nll)], ["bits a byte", nats(row.nll / Math.LN2)],
        ["experts computed", percent(row.compute)], ["choices dropped", percent(row.dropped)],
        ["causal", row.causal ? "yes" : "no"], ...(beaten ? [] : [["", "not beaten"]]),
    ] };
}

/** A staircase, since nothing is known to lie between two strategies; returns the boxes around its lines. */
function drawFrontier(area, front, x, y) {
    const corners = front.flatMap((row, i) =>
        [...(i ? [[x(row.compute), y(front[i - 1].nll)]] : []), [x(row.compute), y(row.nll)]]);
    if (front.length > 1) {
        const path = `M${corners.map((corner) => corner.join(" ")).join("L")}`;
        area.root.append(svg("path", { class: "line frontier", d: path, stroke: "var(--c0)", "stroke-opacity": 0.55 }));
    }
    return corners.slice(1).map(([px, py], i) => ({
        x: Math.min(px, corners[i][0]) - 1, y: Math.min(py, corners[i][1]) - 1,
        width: Math.abs(px - corners[i][0]) + 2, height: Math.abs(py - corners[i][1]) + 2,
    }));
}

function drawQuality(box) {
    const rows = report.quality.filter((row) => known(row.nll) && known(row.compute));
    if (rows.length === 0) {
        return false;
    }
    const best = rows.reduce((a, b) => (b.nll < a.nll ? b : a));
    const label = `Quality against compute: ${rows.length} strategies, nats a byte by share of experts computed. ` +
        `The best is ${best.strategy} with ${nats(best.nll)} nats a byte at ${percent(best.compute)}.`;
    const limit = farLimit(rows);
    const far = rows.filter((row) => row.nll > limit);
    const band = far.length ? 20 * far.length + 20 : 0;
    const [low, high] = padded(rows.filter((row) => row.nll <= limit).map((row) => row.nll), 0.1);
    const ticks = linearTicks(low, high);
    const height = Math.min(480, Math.max(380, box.clientWidth * 0.5));
    const area = plotArea(box, label, { height, left: widest(box, ticks.map(tickText)) + 14 });
    const across = computeAxis(rows);
    const x = across.scale(across.from, across.to, area.left, area.right);
    const y = linearScale(low, high, area.bottom, area.top + band);
    xAxis(area, x, across.ticks, "experts computed, % of all", (share) => figure(100 * share).replace(/\.0+$/, ""));
    yAxis(area, y, ticks, "nats a byte of held-out text, lower is better");
    const above = farBand(area, far, band);

    const front = frontier(rows);
    const lines = drawFrontier(area, front.filter((row) => row.nll <= limit), x, y);
    const marks = rows.map((row) => {
        const py = row.nll > limit ? above.place(row) : y(row.nll);
        return qualityMark(area, row, x(row.compute), py, row.nll > limit, !front.includes(row));
    });
    labelPoints(area, marks, above.names, lines);
    makeMarks(area.root, marks);
    return true;
}
