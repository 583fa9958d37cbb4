// ---- time by phase -------------------------------------------------------------------------------------------------

const phases = ["route", "dispatch", "hidden", "output"];
const phaseNames = { route: "route", dispatch: "dispatch", hidden: "experts: gate and up", output: "experts: down" };

const phaseTokens = unique(report.speed.map((row) => row.tokens)).sort((a, b) => a - b);
const phaseShape = choice("phases", "Shape", speedShapes, { changed: () => draw("phases") });
const phaseToken = choice("phases", "Batch", phaseTokens, {
    text: tokenCount, chosen: Math.max(0, phaseTokens.length - 1), changed: () => draw("phases"),
});

const phaseSum = (row) => phases.reduce((sum, phase) => sum + row[`${phase}_seconds`], 0);

function drawPhaseBar(area, row, x, y, thick) {
    const sum = phaseSum(row);
    let from = 0;
    const marks = phases.map((phase) => {
        const seconds = row[`${phase}_seconds`];
        const [left, right] = [x(from), x(from + seconds)];
        from += seconds;
        const node = svg("rect", { x: left, y, width: right - left, height: thick, fill: `var(--phase-${phase})` });
        area.root.append(node);
        const title = `${row.strategy}: ${phaseNames[phase]}`;
        return { node, x: left, y, width: right - left, height: thick, title, lines: [
            ["median", milliseconds(seconds)], ["part of all phases", percent(sum > 0 ? seconds / sum : NaN)],
            ["whole pass", milliseconds(row.seconds_median)],
            ...(row.noisy ? [["", "scattered too much to be believed"]] : []),
        ] };
    });
    const whole = x(row.seconds_median);
    area.root.append(svg("line", { class: "whole", x1: whole, x2: whole, y1: y - 3, y2: y + thick + 3 }));
    text(area, Math.max(whole, x(sum)) + 8, y + thick / 2 + 4,
         `${figure(1e3 * row.seconds_median)}${row.noisy ? " ~" : ""}`, { class: "strong" });
    return marks;
}

function drawPhases(box) {
    const rows = report.speed.filter((row) => row.shape === phaseShape() && row.tokens === phaseToken() &&
        known(row.seconds_median) && known(phaseSum(row))).sort((a, b) => a.seconds_median - b.seconds_median);
    if (rows.length === 0) {
        return false;
    }
    const label = `Time by phase of ${rows.length} strategies at ${phaseShape()} with ${tokenCount(phaseToken())}, ` +
        `the fastest first: ${rows[0].strategy} takes ${milliseconds(rows[0].seconds_median)}.`;
    const [thick, step, top] = [16, 27, 8];
    const names = nameMargin(box, rows.map((row) => row.strategy)) - 22;
    const area = plotArea(box, label, { height: top + rows.length * step + 46, left: names, right: 64, top });
    const longest = Math.max(...rows.map((row) => Math.max(row.seconds_median, phaseSum(row)))) || 1;
    const x = linearScale(0, longest, area.left, area.right);
    xAxis(area, (value) => x(value / 1e3), linearTicks(0, 1e3 * longest, area.width < 500 ? 3 : 6), "milliseconds");
    const free = (area.bottom - area.top - rows.length * step) / rows.length;
    const marks = rows.flatMap((row, i) => {
        const y = area.top + i * (step + free) + (step + free - thick) / 2;
        const name = text(area, area.left - 10, y + thick / 2 + 4, "", { class: "name", "text-anchor": "end" });
        fitted(name, row.strategy, names - 10);
        return drawPhaseBar(area, row, x, y, thick);
    });
    makeMarks(area.root, marks);
    return true;
}
