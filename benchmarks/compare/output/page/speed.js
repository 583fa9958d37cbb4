// ---- speed by tokens -----------------------------------------------------------------------------------------------

const speedShapes = unique(report.speed.map((row) => row.shape));

const tickTimes = (value) => `${tickText(value)}\u00d7`;
const measures = [
    { key: "tokens_per_second", name: "tokens a second", format: tickText },
    { key: "speedup_active", name: "times a dense network of equal active cost", format: tickTimes },
    { key: "speedup_total", name: "times a dense network of equal total size", format: tickTimes },
].filter(({ key }) => report.speed.some((row) => row[key] > 0));

const speedRedraw = { changed: () => draw("speed") };
const speedShape = choice("speed", "Shape", speedShapes, speedRedraw);
const speedMeasure = choice("speed", "Show", measures, { ...speedRedraw, text: (measure) => measure.name });
const speedShown = toggles("speed", unique(report.speed.map((row) => row.strategy)));

function speedLines(row) {
    return [
        ["tokens a second", count(Math.round(row.tokens_per_second))],
        ["median", milliseconds(row.seconds_median)],
        ["least, 95th percentile", `${figure(1e3 * row.seconds_min)}, ${milliseconds(row.seconds_p95)}`],
        ["dense, equal active cost", times(row.speedup_active)],
        ["dense, equal total size", times(row.speedup_total)],
        ["experts with tokens", count(row.active_experts)],
        ["tokens an expert", `${count(row.load_min)} / ${count(row.load_median)} / ${count(row.load_max)}`],
        ...(row.noisy ? [["", "scattered too much to be believed"]] : []),
    ];
}

function drawSpeed(box) {
    const measure = speedMeasure();
    const all = report.speed.filter((row) => row.shape === speedShape() && row[measure.key] > 0 && row.tokens > 0);
    const last = (name) => all.filter((row) => row.strategy === name).reduce((a, b) => (b.tokens > a.tokens ? b : a));
    const ends = unique(all.map((row) => row.strategy)).map(last)
        .sort((a, b) => b.tokens - a.tokens || b[measure.key] - a[measure.key]);
    const { names, looks } = speedShown(ends.map((row) => row.strategy));
    if (names.length === 0) {
        return false;
    }
    const rows = all.filter((row) => names.includes(row.strategy));
    const tokens = unique(rows.map((row) => row.tokens)).sort((a, b) => a - b);
    const label = `Speed of ${names.length} of ${ends.length} strategies at ${speedShape()}, in ${measure.name}, for ` +
        `${tokens.join(", ")} tokens. At the most tokens ${ends[0].strategy} is the fastest with ` +
        `${figure(ends[0][measure.key])}.`;
    const right = nameMargin(box, names);
    const height = Math.max(360, names.length * 14 + 110);
    const [low, high] = padded(rows.map((row) => row[measure.key]), 0.06, true);
    const ticks = logTicks(low, high);
    const area = plotArea(box, label, { height, left: widest(box, ticks.map(measure.format)) + 12, right });
    const [fewest, most] = [tokens[0], tokens[tokens.length - 1]];
    // a single number of tokens stands in the middle
    const x = fewest === most ? () => (area.left + area.right) / 2
                              : logScale(fewest, most, area.left + 12, area.right - 4);
    const y = logScale(low, high, area.bottom, area.top);
    xAxis(area, x, tokens, "tokens in the batch");
    yAxis(area, y, ticks, measure.name, measure.format);
    const series = names.map((name) => ({
        name,
        look: looks.get(name),
        points: rows.filter((row) => row.strategy === name).sort((a, b) => a.tokens - b.tokens).map((row) => ({
            x: x(row.tokens), y: y(row[measure.key]), hollow: row.noisy,
            title: `${name}, ${tokenCount(row.tokens)}`, lines: speedLines(row),
        })),
    }));
    makeMarks(area.root, drawSeries(area, series));
    return true;
}
