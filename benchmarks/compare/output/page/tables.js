// ---- tables: the rows of the JSON ----------------------------------------------------------------------------------

const scaled = (factor) => (value) => figure(factor * value);
/** 0 says that it is not known. */
const countOrNone = (value) => (value === 0 ? "\u2013" : count(value));

/** Heading, unit and format of the members that have better ones than their own name and `figure`. */
const headings = {
    seconds_min: ["least", "ms", (value) => figure(1e3 * value)],
    seconds_median: ["median", "ms", (value) => figure(1e3 * value)],
    seconds_p95: ["p95", "ms", (value) => figure(1e3 * value)],
    route_seconds: ["route", "ms", (value) => figure(1e3 * value)],
    dispatch_seconds: ["dispatch", "ms", (value) => figure(1e3 * value)],
    hidden_seconds: ["gate and up", "ms", (value) => figure(1e3 * value)],
    output_seconds: ["down", "ms", (value) => figure(1e3 * value)],
    tokens_per_second: ["speed", "tokens/s", (value) => (value >= 100 ? count(Math.round(value)) : figure(value))],
    speedup_active: ["dense, active", "times as fast", times],
    speedup_total: ["dense, total", "times as fast", times],
    active_experts: ["experts", "with tokens", count],
    load_min: ["least load", "tokens", count],
    load_median: ["median load", "tokens", count],
    load_max: ["most load", "tokens", count],
    noisy: ["noisy", "", (value) => (value ? "~" : "")],
    tokens: ["tokens", "", count],
    experts: ["experts", "", count],
    layer: ["layer", "", (value) => (value < 0 ? "\u2013" : count(value))],
    max_violation: ["max violation", "over mean, \u2212 1", figure],
    variation: ["variation", "sd over mean", figure],
    gini: ["Gini", "0 even", figure],
    entropy: ["entropy", "1 even", figure],
    dead: ["dead", "experts", count],
    dropped: ["dropped", "% of choices", (value) => figure(100 * value)],
    experts_per_token: ["experts", "a token", figure],
    confidence: ["confidence", "mean top weight", figure],
    nll: ["NLL", "nats a byte", nats],
    compute: ["computed", "% of experts", (value) => figure(100 * value)],
    causal: ["causal", "", (value) => (value ? "yes" : "no")],
    step: ["step", "", count],
    load: ["load", "share by expert", null],
    threads: ["threads", "", count],
    bytes_per_second: ["memory read", "GB/s", scaled(1e-9)],
    flops_per_second: ["float32", "GFLOP/s", scaled(1e-9)],
    int8_flops_per_second: ["int8, int4", "GFLOP/s", scaled(1e-9)],
    memory_bytes: ["memory", "GB", scaled(1e-9)],
    layers: ["layers", "with experts", countOrNone],
    d_model: ["width", "d_model", countOrNone],
    d_ff: ["expert", "d_ff", countOrNone],
    total_parameters: ["parameters", "billions", scaled(1e-9)],
    active_parameters: ["active", "billions", scaled(1e-9)],
    expert_share: ["in experts", "% of parameters", scaled(100)],
    bytes_f32: ["f32", "GB", scaled(1e-9)],
    bytes_bf16: ["bf16", "GB", scaled(1e-9)],
    bytes_f16: ["f16", "GB", scaled(1e-9)],
    bytes_int8: ["int8", "GB", scaled(1e-9)],
    bytes_int4: ["int4", "GB", scaled(1e-9)],
    distinct_experts: ["experts read", "of a layer", figure],
    bytes_per_token: ["read", "GB a token", scaled(1e-9)],
    flops_per_token: ["computed", "GFLOP a token", scaled(1e-9)],
    active_bytes_per_token: ["dense, active", "GB a token", scaled(1e-9)],
    active_flops_per_token: ["dense, active", "GFLOP a token", scaled(1e-9)],
    active_tokens_per_second: ["dense, active", "tokens/s", figure],
    total_bytes_per_token: ["dense, total", "GB a token", scaled(1e-9)],
    total_flops_per_token: ["dense, total", "GFLOP a token", scaled(1e-9)],
    total_tokens_per_second: ["dense, total", "tokens/s", figure],
    fits: ["fits", "into memory", (value) => (value ? "yes" : "no")],
    effective: ["effective", "experts", figure],
    router_norm: ["router gradient", "norm", figure],
    expert_norm: ["expert gradient", "norm", figure],
    seeds: ["seeds", "", count],
    seed: ["seed", "", count],
    nll_least: ["least", "of the seeds", nats],
    nll_most: ["most", "of the seeds", nats],
    train_nll: ["training NLL", "nats a byte", nats],
    parameters: ["parameters", "thousands", scaled(1e-3)],
    operations: ["operations", "10\u2079", scaled(1e-9)],
    seconds: ["time", "s", figure],
    "trained.active_parameters": ["active", "thousands", scaled(1e-3)],
    "trained.entropy": ["router entropy", "1 even", figure],
    "training.entropy": ["router entropy", "1 even", figure],
    "training.loss": ["training NLL", "nats a byte", nats],
    "collapse.loss": ["loss", "predicting 0: 1", figure],
};
/** A member may mean something else in one section. */
const headingOf = (name, key) => headings[`${name}.${key}`] ?? headings[key] ?? [key, ""];

const tableTitles = costs ? {
    cost_machine: "Limits of this machine",
    cost_models: "Models",
    cost: "Costs",
} : {
    ...(report.trained.length ? { trained: "Trained" } : {}),
    speed: "Speed",
    balance: "Balance",
    quality: "Quality",
    collapse: "Collapse",
    ...(report.training.length ? { training: "Training" } : {}),
};

/** Bars for the shares of the experts. */
function loadBars(load) {
    const [width, height] = [Math.min(120, Math.max(40, 7 * load.length)), 18];
    const step = width / load.length;
    const scale = height / Math.max(...load, 1e-9);
    const at = (value) => value.toFixed(2);
    const bar = (share, i) => `M${at(i * step)} ${height}v${at(-share * scale)}h${at(step * 0.8)}V${height}z`;
    const root = svg("svg", { width, height, role: "img" }, svg("path", { d: load.map(bar).join("") }));
    root.setAttribute("aria-label", load.map(percent).join(", "));
    return root;
}

function cellOf(name, key, value, tag) {
    const cell = html(tag, tag === "th" ? { scope: "row" } : {});
    // the exact value, for those who point at the cell, and for sorting
    cell.dataset.value = Array.isArray(value) ? value.join(" ") : String(value);
    cell.title = cell.dataset.value;
    if (Array.isArray(value)) {
        cell.className = "text";
        cell.append(value.length ? loadBars(value) : "\u2013");
    } else if (typeof value === "string") {
        cell.className = "text";
        cell.textContent = value;
    } else {
        cell.textContent = (headingOf(name, key)[2] ?? (typeof value === "boolean" ? String : figure))(value);
        if (key === "noisy" && value) {
            cell.className = "mark noisy";
        }
    }
    return cell;
}

function sortBy(table, column, heading) {
    const body = table.tBodies[0];
    const rising = heading.getAttribute("aria-sort") !== "ascending";
    const value = (row) => row.cells[column].dataset.value;
    const order = (a, b) => {
        const difference = Number(value(a)) - Number(value(b));
        return Number.isNaN(difference) ? value(a).localeCompare(value(b), "en", { numeric: true }) : difference;
    };
    const missing = (row) => value(row) === "null";  // below all others, either way
    body.append(...[...body.rows].sort((a, b) => missing(a) - missing(b) || (rising ? order(a, b) : order(b, a))));
    for (const each of table.tHead.rows[0].cells) {
        each.removeAttribute("aria-sort");
    }
    heading.setAttribute("aria-sort", rising ? "ascending" : "descending");
}

function tableOf(name, rows) {
    const columns = Object.keys(rows[0]);
    const head = html("tr");
    const table = html("table", { id: `rows-${name}` }, html("thead", {}, head));
    columns.forEach((key, i) => {
        const [title, unit] = headingOf(name, key);
        const button = html("button", { type: "button" }, title, ...(unit ? [html("small", {}, unit)] : []));
        const words = typeof rows[0][key] === "string" || Array.isArray(rows[0][key]);
        const heading = html("th", { scope: "col", class: words ? "text" : "number", "data-key": key }, button);
        button.addEventListener("click", () => sortBy(table, i, heading));
        head.append(heading);
    });
    const body = html("tbody");
    for (const row of rows) {
        body.append(html("tr", {}, ...columns.map((key, i) => cellOf(name, key, row[key], i === 0 ? "th" : "td"))));
    }
    table.append(body);
    return table;
}

function drawTables(box) {
    for (const [name, title] of Object.entries(tableTitles)) {
        const rows = report[name];
        const size = `${count(rows.length)} ${rows.length === 1 ? "row" : "rows"}`;
        box.append(html("h3", { id: `title-${name}` }, `${title} `, html("small", {}, size)));
        // focusable, so that the arrow keys can scroll it
        box.append(rows.length === 0 ? html("p", { class: "empty" }, "Not measured.")
            : html("div", { class: "scroll", role: "region", tabindex: "0", "aria-labelledby": `title-${name}` },
                   tableOf(name, rows)));
    }
}
