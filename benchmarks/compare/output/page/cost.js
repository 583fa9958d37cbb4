// ---- cost: mixtures beside dense models ----------------------------------------------------------------------------

const costFormats = unique(report.cost.map((row) => row.format));
const costTokens = unique(report.cost.map((row) => row.tokens)).sort((a, b) => a - b);
const costSizes = new Map(report.cost_models.map((row) => [row.model, row]));
const gigabytes = (bytes) => `${figure(bytes / 1e9)} GB`;
const billions = (parameters) => `${figure(parameters / 1e9)} billion`;

/** Formats to choose from for the plot `id`, bfloat16 first of all. */
function formatChoice(id, redraw) {
    return choice(id, "Format", costFormats, { ...redraw, chosen: Math.max(0, costFormats.indexOf("bf16")) });
}

const costRedraw = { changed: () => draw("cost") };
const costFormat = formatChoice("cost", costRedraw);
const costBatch = choice("cost", "Batch", costTokens, { ...costRedraw, text: tokenCount });

function costLines(row) {
    const sizes = costSizes.get(row.model);
    return [
        ["parameters", billions(sizes.total_parameters)],
        ["active for a token", billions(sizes.active_parameters)],
        ["tokens a second", figure(row.tokens_per_second)],
        ["dense, equal active size", figure(row.active_tokens_per_second)],
        ["dense, equal total size", figure(row.total_tokens_per_second)],
        ["read for a token", gigabytes(row.bytes_per_token)],
        ["experts of a layer read", `${figure(row.distinct_experts)} of ${count(row.experts)}`],
        ...(row.kind === "reported" ? [["", "reported, not confirmed"]] : []),
        ...(row.fits ? [] : [["", "more than this machine's memory"]]),
    ];
}

/** Small boxes along the lines between points, which names keep away from. */
function boxesAlong(points) {
    return points.slice(1).flatMap(([x, y], i) => {
        const [fromX, fromY] = points[i];
        const steps = Math.max(1, Math.ceil(Math.hypot(x - fromX, y - fromY) / 5));
        return Array.from({ length: steps }, (_, step) => ({
            x: fromX + ((x - fromX) * step) / steps - 1, y: fromY + ((y - fromY) * step) / steps - 1, width: 2, height: 2,
        }));
    });
}

function drawCost(box) {
    const total = (row) => costSizes.get(row.model)?.total_parameters / 1e9;
    const rows = report.cost.filter((row) => row.kind !== "layer" && row.format === costFormat() &&
        row.tokens === costBatch() && row.tokens_per_second > 0 && row.total_tokens_per_second > 0 && total(row) > 0);
    if (rows.length === 0) {
        return false;
    }
    const order = [...rows].sort((a, b) => total(a) - total(b));
    const gains = rows.map((row) => row.speedup_total);
    const label = `Tokens a second that the machine's limits allow, by total parameters, for ${rows.length} models in ` +
        `${costFormat()} with ${tokenCount(costBatch())}: ${times(Math.min(...gains))} to ${times(Math.max(...gains))} ` +
        "what a dense model of the same size reaches.";
    const [low, high] = padded(rows.flatMap((row) => [row.tokens_per_second, row.total_tokens_per_second]), 0.05, true);
    const [from, to] = padded(order.map(total), 0.05, true);
    const ticks = logTicks(low, high);
    const height = Math.min(560, Math.max(400, box.clientWidth * 0.55));
    const area = plotArea(box, label, { height, left: widest(box, ticks.map(tickText)) + 14 });
    const x = logScale(from, to, area.left, area.right);
    const y = logScale(low, high, area.bottom, area.top);
    xAxis(area, x, logTicks(from, to), "parameters in all, billions");
    yAxis(area, y, ticks, "tokens a second at most");
    const line = order.map((row) => [x(total(row)), y(row.total_tokens_per_second)]);
    const path = `M${line.map((point) => point.join(" ")).join("L")}`;
    area.root.append(svg("path", { class: "line", d: path, stroke: "var(--c6)" }));
    const marks = order.map((row) => {
        const reported = row.kind === "reported";
        const [px, py] = [x(total(row)), y(row.tokens_per_second)];
        const style = reported ? { fill: "var(--surface)", stroke: "var(--c1)", "stroke-width": 2 }
                               : { fill: "var(--c0)", stroke: "var(--surface)", "stroke-width": 1.5 };
        const node = svg("path", { d: shapePath(reported ? "diamond" : "circle", px, py, reported ? 4.5 : 5), ...style });
        area.root.append(node);
        return { node, x: px, y: py, name: row.model, title: row.model, lines: costLines(row) };
    });
    labelPoints(area, marks, [], boxesAlong(line));
    makeMarks(area.root, marks);
    return true;
}

const batchRedraw = { changed: () => draw("batch") };
const batchModels = unique(report.cost.map((row) => row.model));
const batchModel = choice("batch", "Model", batchModels,
                          { ...batchRedraw, chosen: Math.max(0, batchModels.indexOf("Qwen3-30B-A3B")) });
const batchFormat = formatChoice("batch", batchRedraw);
const batchMeasures = [
    { key: "tokens_per_second", name: "tokens a second at most", factor: 1 },
    { key: "bytes_per_token", name: "GB read for a token", factor: 1e-9 },
    { key: "flops_per_token", name: "GFLOP computed for a token", factor: 1e-9 },
];
const batchMeasure = choice("batch", "Show", report.cost.length ? batchMeasures : [],
                            { ...batchRedraw, text: (measure) => measure.name });
const batchSeries = [  // the last one lies on top
    { name: "dense, active size", prefix: "active_" },
    { name: "dense, total size", prefix: "total_" },
    { name: "mixture", prefix: "" },
];

function drawBatch(box) {
    const rows = report.cost.filter((row) => row.model === batchModel() && row.format === batchFormat())
        .sort((a, b) => a.tokens - b.tokens);
    if (rows.length === 0) {
        return false;
    }
    const measure = batchMeasure();
    const value = (row, { prefix }) => row[prefix + measure.key] * measure.factor;
    const all = rows.flatMap((row) => batchSeries.map((each) => value(row, each)));
    if (!all.every((each) => each > 0)) {
        return false;
    }
    const last = rows[rows.length - 1];
    const label = `${batchModel()} in ${batchFormat()}, ${measure.name}, by tokens in the batch. With ` +
        `${tokenCount(last.tokens)}: ${batchSeries.map((each) => `${each.name} ${figure(value(last, each))}`).join("; ")}.`;
    const [low, high] = padded(all, 0.08, true);
    const ticks = logTicks(low, high);
    const right = nameMargin(box, batchSeries.map((each) => each.name));
    const area = plotArea(box, label, { height: 340, left: widest(box, ticks.map(tickText)) + 12, right });
    const [fewest, most] = [rows[0].tokens, last.tokens];
    const x = fewest === most ? () => (area.left + area.right) / 2
                              : logScale(fewest, most, area.left + 12, area.right - 4);
    const y = logScale(low, high, area.bottom, area.top);
    xAxis(area, x, rows.map((row) => row.tokens), "tokens in the batch");
    yAxis(area, y, ticks, measure.name);
    const series = batchSeries.map((each, i) => ({
        name: each.name,
        look: look((i + 1) % batchSeries.length),
        points: rows.map((row) => ({
            x: x(row.tokens), y: y(value(row, each)), title: `${each.name}, ${tokenCount(row.tokens)}`,
            lines: [
                ["tokens a second", figure(row[`${each.prefix}tokens_per_second`])],
                ["read for a token", gigabytes(row[`${each.prefix}bytes_per_token`])],
                ["computed for a token", `${figure(row[`${each.prefix}flops_per_token`] / 1e9)} GFLOP`],
                ...(each.prefix === "" ? [["experts of a layer read", `${figure(row.distinct_experts)} of ${count(row.experts)}`]] : []),
            ],
        })),
    }));
    makeMarks(area.root, drawSeries(area, series));
    return true;
}
