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

/** A logarithmic axis for values that may be 0: four powers of ten below the highest at most. */
function positiveRange(values) {
    const high = Math.max(...values);
    const above = values.filter((value) => value > high * 1e-4);
    const [from, to] = padded(above, 0.06, true);
    return { from, to, clamped: (value) => Math.max(value, from) };
}

/** Lines {key, name, value, least} where all points of `shown` are known: their names, from the least last value. */
function ranked(curves, sign = 1) {
    const last = (name) => curves.get(name)[curves.get(name).length - 1].value;
    return [...curves.keys()].filter((name) => curves.get(name).length > 0).sort((a, b) => sign * (last(a) - last(b)));
}

/** The range over the seeds, where there are several. */
function seedLines(point, format) {
    return point.seeds > 1 ? [["least, most of the seeds", `${format(point.low)}, ${format(point.high)}`],
                              ["seeds", count(point.seeds)]] : [];
}
