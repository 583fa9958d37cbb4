// ---- collapse ------------------------------------------------------------------------------------------------------

function drawCollapse(box) {
    const rows = report.collapse.filter((row) => known(row.max_violation));
    if (rows.length === 0) {
        return false;
    }
    const runs = unique(rows.map((row) => row.run));
    const last = runs.map((run) => rows.filter((row) => row.run === run).reduce((a, b) => (b.step > a.step ? b : a)));
    const ends = last.map((row) => `${row.run} ends at ${figure(row.max_violation)}`);
    const label = `Max violation by step. ${ends.join("; ")}.`;
    const steps = rows.map((row) => row.step);
    const [first, end] = [Math.min(...steps), Math.max(...steps)];
    const high = Math.max(...rows.map((row) => row.max_violation)) * 1.06 || 1;
    const ticks = linearTicks(0, high);
    const left = widest(box, ticks.map(tickText)) + 14;
    const area = plotArea(box, label, { height: 330, left, right: nameMargin(box, runs) });
    const x = linearScale(first, Math.max(end, first + 1), area.left + 6, area.right - 4);
    const y = linearScale(0, high, area.bottom, area.top);
    xAxis(area, x, linearTicks(first, end, area.width < 500 ? 3 : 8).filter(Number.isInteger), "step");
    yAxis(area, y, ticks, "max violation: largest load over the mean, less 1");
    const series = runs.map((run, i) => {
        const points = rows.filter((row) => row.run === run).sort((a, b) => a.step - b.step);
        return {
            name: run,
            look: look(runs.length === 2 ? 1 - i : i),
            points: points.map((row) => ({
                x: x(row.step), y: y(row.max_violation), quiet: points.length > 40, title: `${run}, step ${row.step}`,
                lines: [["max violation", figure(row.max_violation)], ["variation", figure(row.variation)],
                        ...(row.load.length ? [["largest share", percent(Math.max(...row.load))]] : [])],
            })),
        };
    });
    makeMarks(area.root, drawSeries(area, series));
    return true;
}
