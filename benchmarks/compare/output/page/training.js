// ---- training: what several plots of it need -----------------------------------------------------------------------

const trainedNames = unique(report.training.map((row) => row.strategy));
const notCausal = new Set(report.trained.filter((row) => !row.causal).map((row) => row.strategy));
const firstSeed = new Map(report.training.map((row) => [row.strategy, row.seed]).reverse());

/** Rows by strategy and step, in the order of the steps. */
const stepsOf = new Map(trainedNames.map((name) => {
    const rows = report.training.filter((row) => row.strategy === name);
    const steps = unique(rows.map((row) => row.step)).sort((a, b) => a - b);
    return [name, steps.map((step) => rows.filter((row) => row.step === step))];
}));

/** Mean over the rows of one step, or NaN where not all seeds of the strategy have a finite value. */
function seedMean(name, rows, value) {
    const values = rows.map(value);
    const seeds = Math.max(...stepsOf.get(name).map((each) => each.length));
    return values.length === seeds && values.every(known) ? values.reduce((a, b) => a + b) / seeds : NaN;
}

/** Points {step, across, value, low, high, seeds} of a strategy that both functions of a row are known of. */
function curve(name, across, value) {
    return stepsOf.get(name).map((rows) => ({
        step: rows[0].step, across: seedMean(name, rows, across), value: seedMean(name, rows, value),
        low: Math.min(...rows.map(value)), high: Math.max(...rows.map(value)), seeds: rows.length,
    })).filter((point) => known(point.across) && known(point.value));
}

/** The names of curves that have points, by their last values: from the least, or with a sign of -1 from the most. */
function ranked(curves, sign = 1) {
    const last = (name) => curves.get(name)[curves.get(name).length - 1].value;
    return [...curves.keys()].filter((name) => curves.get(name).length > 0).sort((a, b) => sign * (last(a) - last(b)));
}

/** The range over the seeds, where there are several. */
function seedLines(point, format) {
    return point.seeds > 1 ? [["least, most of the seeds", `${format(point.low)}, ${format(point.high)}`],
                              ["seeds", count(point.seeds)]] : [];
}

/** Leaves every point of a line to be asked, but shows no two of them close together; the last one always. */
function thinned(points) {
    let reached = Infinity;
    return [...points].reverse().map((point) => {
        const quiet = reached - point.x < 18;
        reached = quiet ? reached : point.x;
        return { ...point, quiet };
    }).reverse();
}
