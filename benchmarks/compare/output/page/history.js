// ---- load of the experts as training goes on -----------------------------------------------------------------------

const loaded = report.training.filter((row) => row.load.length > 0 && row.seed === firstSeed.get(row.strategy));
const loadedNames = unique(loaded.map((row) => row.strategy));
const historyStrategy = choice("history", "Strategy", loadedNames, {
    chosen: Math.max(0, loadedNames.indexOf(usual)), changed: () => draw("history"),
});

function historyCells(area, row, x, wide, tall) {
    const experts = row.load.length;
    return row.load.map((share, expert) => {
        const factor = share * experts;
        const place = { x, y: area.top + expert * tall, width: wide, height: tall };
        const [gapX, gapY] = [wide > 8 ? 1 : 0, tall > 6 ? 1 : 0];
        const drawn = { x, y: place.y, width: wide - gapX, height: tall - gapY };
        area.root.append(svg("rect", { ...drawn, fill: "var(--neutral)" }));
        const node = svg("rect", { ...drawn, ...loadColour(factor) });
        area.root.append(node);
        return { node, ...place, title: `${row.strategy}, step ${count(row.step)}, expert ${expert}`, lines: [
            ["share of the choices", percent(share)], ["of its even share", factor === 0 ? "none" : times(factor)],
            ["max violation of the step", figure(row.max_violation)],
        ] };
    });
}

function drawHistory(box) {
    const rows = loaded.filter((row) => row.strategy === historyStrategy()).sort((a, b) => a.step - b.step);
    if (rows.length === 0) {
        return false;
    }
    const last = rows[rows.length - 1];
    const experts = Math.max(...rows.map((row) => row.load.length));
    const most = Math.max(...last.load) * last.load.length;
    const label = `Load of ${experts} experts of the last layer with ${last.strategy}, by step of training. At the end ` +
        `the busiest expert has ${times(most)} its even share.`;
    const tall = Math.max(3, Math.min(26, Math.floor(420 / experts)));
    const left = widest(box, [experts, "expert"]) + 12;
    const area = plotArea(box, label, { height: 30 + experts * tall + 46, left, right: 8 });
    const height = (area.bottom - area.top) / experts;
    const wide = (area.right - area.left) / rows.length;
    text(area, 0, 12, "expert", { class: "title" });
    const every = [1, 2, 4, 8, 16, 32, 64, 128].find((each) => each * height >= 14) ?? experts;
    for (let expert = 0; expert < experts; expert += every) {
        const y = area.top + (expert + 0.5) * height + 4;
        text(area, area.left - 8, y, expert, { class: "tick", "text-anchor": "end" });
    }
    const marks = rows.flatMap((row, i) => historyCells(area, row, area.left + i * wide, wide, height));
    // the names of steps under their own columns: rows need not be equally far apart
    const ticks = rows.map((row, i) => ({ i, step: row.step }));
    const apartBy = Math.ceil((widest(box, rows.map((row) => count(row.step))) + 14) / wide);
    for (const { i, step } of ticks.filter((tick) => (rows.length - 1 - tick.i) % apartBy === 0)) {
        const x = area.left + (i + 0.5) * wide;
        const name = text(area, x, area.bottom + 18, count(step), { class: "tick", "text-anchor": "middle" });
        const over = x + name.getComputedTextLength() / 2 - area.width;
        name.setAttribute("x", x - Math.max(0, over));
    }
    text(area, area.right, area.bottom + 38, "step", { class: "title", "text-anchor": "end" });
    makeMarks(area.root, marks);
    return true;
}
