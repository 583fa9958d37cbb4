// ---- final quality of what was trained -----------------------------------------------------------------------------

/** Rows with a held-out quality, the best first. */
const learnt = report.trained.filter((row) => known(row.nll)).sort((a, b) => a.nll - b.nll);

function finalLines(row) {
    return [
        ["nats a byte", nats(row.nll)], ["least, most of the seeds", `${nats(row.nll_least)}, ${nats(row.nll_most)}`],
        ["seeds", count(row.seeds)], ["text to learn from", nats(row.train_nll)],
        ["experts a token", figure(row.experts_per_token)],
        ["active parameters", count(Math.round(row.active_parameters))],
        ["of all parameters", count(Math.round(row.parameters))], ["seconds of training", figure(row.seconds)],
        ...(row.causal ? [] : [["", "not causal"]]),
    ];
}

/** The mean and a line over the seeds; a triangle at the edge where it lies beyond the axis. */
function finalMark(area, row, x, y, limit) {
    const colour = row.causal ? "var(--c0)" : "var(--c1)";
    const far = row.nll > limit;
    const px = far ? area.right - 6 : x(row.nll);
    if (!far && known(row.nll_least) && known(row.nll_most)) {
        const [from, to] = [x(row.nll_least), Math.min(x(row.nll_most), area.right)];
        area.root.append(svg("line", { class: "range", x1: from, x2: to, y1: y, y2: y, stroke: colour }));
    }
    const style = row.causal ? { fill: colour, stroke: "var(--surface)", "stroke-width": 1.5 }
                             : { fill: "var(--surface)", stroke: colour, "stroke-width": 2 };
    const shape = far ? "triangle" : row.causal ? "circle" : "diamond";
    const node = svg("path", { d: shapePath(shape, px, y, row.causal ? 5.5 : 4.5), ...style });
    area.root.append(node);
    return { node, x: px, y, title: row.strategy, lines: finalLines(row) };
}

function drawFinal(box) {
    if (learnt.length === 0) {
        return false;
    }
    const best = learnt.find((row) => row.causal) ?? learnt[0];
    const label = `Held-out nats a byte of ${learnt.length} trained strategies, the best first: ` +
        `${learnt[0].strategy} with ${nats(learnt[0].nll)}; the best causal one is ${best.strategy} ` +
        `with ${nats(best.nll)}.`;
    const limit = farLimit(learnt);
    const near = learnt.filter((row) => row.nll <= limit);
    const [low, high] = padded(near.flatMap((row) => [row.nll_least, row.nll, row.nll_most]), 0.05);
    const [step, top] = [25, 8];
    const names = nameMargin(box, learnt.map((row) => row.strategy)) - 22;
    const values = widest(box, learnt.map((row) => nats(row.nll))) + 14;
    const area = plotArea(box, label, { height: top + learnt.length * step + 46, left: names, right: values, top });
    const x = linearScale(low, high, area.left + 6, area.right - (limit < Infinity ? 22 : 8));
    const tall = (area.bottom - area.top) / learnt.length;
    if (known(best.nll_least) && best.nll_most > best.nll_least) {
        const [from, to] = [x(best.nll_least), x(best.nll_most)];
        const height = area.bottom - area.top;
        area.root.append(svg("rect", { class: "band", x: from, y: area.top, width: to - from, height }));
    }
    xAxis(area, x, linearTicks(low, high, area.width < 500 ? 4 : 6), "nats a byte of held-out text");
    const marks = learnt.map((row, i) => {
        const y = area.top + (i + 0.5) * tall;
        const name = text(area, area.left - 10, y + 4, "", { class: "name", "text-anchor": "end" });
        fitted(name, row.strategy, names - 10);
        text(area, area.width, y + 4, nats(row.nll), { class: "strong", "text-anchor": "end" });
        return finalMark(area, row, x, y, limit);
    });
    makeMarks(area.root, marks);
    return true;
}
