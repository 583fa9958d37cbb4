// ---- load of the experts -------------------------------------------------------------------------------------------

const loads = report.balance.filter((row) => row.load.length > 0);
const loadInputs = unique(loads.map((row) => row.input));
const layered = (input) => loads.some((row) => row.input === input && row.layer >= 0);

const loadInput = choice("load", "Input", loadInputs, {
    changed: () => {
        showLoadStrategy();
        draw("load");
    },
});
const layeredStrategies = unique(loads.filter((row) => row.layer >= 0).map((row) => row.strategy));
const loadStrategy = choice("load", "Strategy", layeredStrategies, { changed: () => draw("load") });

/** Inputs without layers show all strategies at once, and have none to choose. */
function showLoadStrategy() {
    const selects = [...document.querySelectorAll("#load .controls label")];
    const strategy = selects.find((label) => label.textContent.startsWith("Strategy"));
    if (strategy) {
        strategy.style.display = layered(loadInput()) ? "" : "none";
    }
}
showLoadStrategy();

/** Blue below the even share, orange above it; the most colour at none and at four times. */
function loadColour(factor) {
    return factor < 1 ? { fill: "var(--under)", "fill-opacity": 0.8 * (1 - factor) }
                      : { fill: "var(--over)", "fill-opacity": Math.min(1, Math.log2(factor) / 2) };
}

function drawLoadRow(area, row, name, y, height) {
    const experts = row.load.length;
    const wide = (area.right - area.left) / experts;
    const gap = wide > 8 ? 2 : 0;
    return row.load.map((share, expert) => {
        const x = area.left + expert * wide;
        const factor = share * experts;
        const place = { x, y, width: wide - gap, height: height - 2 };
        const colour = loadColour(factor);
        area.root.append(svg("rect", { ...place, rx: gap, fill: "var(--neutral)" }));
        const node = svg("rect", { ...place, rx: gap, ...colour });
        area.root.append(node);
        const shown = factor === 0 ? "\u00d7" : `${factor.toFixed(factor < 9.95 ? 1 : 0)}\u00d7`;
        if (wide >= 34 || (factor === 0 && wide >= 10)) {
            text(area, x + (wide - gap) / 2, y + height / 2 + 3, shown, {
                class: "cell", "text-anchor": "middle",
                style: `fill:${colour["fill-opacity"] > 0.6 ? "var(--on-over)" : "var(--ink)"}`,
            });
        }
        return { node, ...place, title: `${name}, expert ${expert}`, lines: [
            ["share of the choices", percent(share)], ["of its even share", factor === 0 ? "none" : times(factor)],
            ["max violation of the row", figure(row.max_violation)],
        ] };
    });
}

function drawLoad(box) {
    const byLayer = layered(loadInput());
    const rows = loads.filter((row) => row.input === loadInput() && (!byLayer || row.strategy === loadStrategy()));
    if (rows.length === 0) {
        return false;
    }
    const names = rows.map((row) => (byLayer ? `layer ${row.layer}` : row.strategy));
    const worst = Math.max(...rows.map((row) => row.max_violation));
    const how = byLayer ? ` with ${loadStrategy()}, by layer` : ", by strategy";
    const label = `Load of the experts on ${loadInput()}${how}. The largest violation is ${figure(worst)}.`;
    const margin = nameMargin(box, names) - 22;
    const top = 28;
    const height = top + rows.length * (byLayer ? 40 : 27) + 26;
    const area = plotArea(box, label, { height, left: margin, right: 1, top, bottom: 24 });
    const experts = Math.max(...rows.map((row) => row.load.length));
    const wide = (area.right - area.left) / experts;
    const step = [1, 2, 4, 8, 16, 32, 64, 128].find((each) => each * wide >= 26) ?? experts;
    for (let expert = 0; expert < experts; expert += step) {
        text(area, area.left + (expert + 0.5) * wide, top - 8, expert, { "text-anchor": "middle", class: "tick" });
    }
    text(area, area.right, area.bottom + 18, "expert", { "text-anchor": "end", class: "title" });
    const tall = (area.bottom - area.top) / rows.length;
    const marks = rows.flatMap((row, i) => {
        const y = area.top + i * tall;
        const name = text(area, area.left - 10, y + tall / 2 + 3, names[i], { class: "name", "text-anchor": "end" });
        fitted(name, names[i], margin - 10);
        return drawLoadRow(area, row, byLayer ? `${row.strategy}, ${names[i]}` : names[i], y, tall);
    });
    makeMarks(area.root, marks);
    return true;
}
