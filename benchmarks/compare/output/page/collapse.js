// ---- collapse ------------------------------------------------------------------------------------------------------

const collapseMeasures = [
    { key: "max_violation", name: "max violation", title: "largest load over the mean, less 1" },
    { key: "loss", name: "loss", title: "loss over that of predicting 0", log: true },
    { key: "effective", name: "effective experts", title: "effective experts, exp of the entropy of the load" },
    { key: "router_norm", name: "router gradient", title: "norm of the router's gradient, by the loss", log: true },
].filter(({ key }) => key === "max_violation" || report.collapse.some((row) => row[key] > 0));
const collapseMeasure = choice("collapse", "Show", collapseMeasures, {
    changed: () => draw("collapse"), text: (measure) => measure.name,
});

function collapseLines(row) {
    return [
        ...collapseMeasures.map(({ key, name }) => [name, figure(row[key])]), ["variation", figure(row.variation)],
        ...(row.load.length ? [["largest share", percent(Math.max(...row.load))]] : []),
    ];
}

function drawCollapse(box) {
    const measure = collapseMeasure();
    const rows = report.collapse.filter((row) => known(row[measure.key]));
    if (rows.length === 0) {
        return false;
    }
    const runs = unique(rows.map((row) => row.run));
    const last = runs.map((run) => rows.filter((row) => row.run === run).reduce((a, b) => (b.step > a.step ? b : a)));
    const ends = last.map((row) => `${row.run} ends at ${figure(row[measure.key])}`);
    const label = `${measure.title} by step. ${ends.join("; ")}.`;
    const steps = rows.map((row) => row.step);
    const [first, end] = [Math.min(...steps), Math.max(...steps)];
    const axis = measureAxis(measure, rows.map((row) => row[measure.key]));
    const left = widest(box, axis.ticks.map(tickText)) + 14;
    const area = plotArea(box, label, { height: 330, left, right: nameMargin(box, runs) });
    const x = linearScale(first, Math.max(end, first + 1), area.left + 6, area.right - 4);
    const y = axis.scale(axis.low, axis.high, area.bottom, area.top);
    xAxis(area, x, linearTicks(first, end, area.width < 500 ? 3 : 8).filter(Number.isInteger), "step");
    yAxis(area, y, axis.ticks, measure.title);
    const series = runs.map((run, i) => {
        const points = rows.filter((row) => row.run === run).sort((a, b) => a.step - b.step);
        return {
            name: run,
            look: look(runs.length === 2 ? 1 - i : i),
            points: points.map((row) => ({
                x: x(row.step), y: y(axis.clamped(row[measure.key])), quiet: points.length > 40,
                title: `${run}, step ${row.step}`, lines: collapseLines(row),
            })),
        };
    });
    makeMarks(area.root, drawSeries(area, series));
    return true;
}
