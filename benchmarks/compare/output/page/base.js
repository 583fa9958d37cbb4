const report = JSON.parse(document.getElementById("data").textContent);
/** A page shows the costs of models, or else strategies. */
const costs = report.cost.length > 0;

// ---- elements: text is always set as text, never parsed ------------------------------------------------------------

function fill(node, attributes, children) {
    for (const [name, value] of Object.entries(attributes)) {
        node.setAttribute(name, value);
    }
    node.append(...children);
    return node;
}

function html(name, attributes = {}, ...children) {
    return fill(document.createElement(name), attributes, children);
}

function svg(name, attributes = {}, ...children) {
    return fill(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

const unique = (values) => [...new Set(values)];
const known = (value) => typeof value === "number" && Number.isFinite(value);

// ---- figures -------------------------------------------------------------------------------------------------------

/** Three significant digits, as many as there are before the point. */
function figure(value) {
    if (!known(value)) {
        return "\u2013";
    }
    const size = Math.abs(value);
    if (size === 0) {
        return "0";
    }
    if (size < 0.0009995 || size >= 1e9) {
        return value.toExponential(2);
    }
    const digits = Math.min(6, Math.max(0, 2 - Math.floor(Math.log10(size * (1 + 5e-4)))));
    return value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

/** Four decimals: what strategies differ in lies in the third. */
const nats = (value) => (known(value) && Math.abs(value) < 1e6 ? value.toFixed(4) : figure(value));
const count = (value) => (known(value) ? value.toLocaleString("en", { maximumFractionDigits: 3 }) : "\u2013");
const milliseconds = (seconds) => (known(seconds) ? `${figure(1e3 * seconds)} ms` : "\u2013");
const percent = (share) => (known(share) ? `${figure(100 * share)} %` : "\u2013");
/** A factor; 0 says that there was nothing to compare with. */
const times = (factor) => (known(factor) && factor > 0 ? `${figure(factor)}\u00d7` : "\u2013");
const tokenCount = (tokens) => `${count(tokens)} ${tokens === 1 ? "token" : "tokens"}`;

// ---- strategies look alike in all plots ----------------------------------------------------------------------------

const strategies = unique([...report.speed, ...report.balance, ...report.quality, ...report.trained,
                           ...report.training].map((row) => row.strategy));
const hues = 7;

/** Colour, dashes and shape of the point: three ways to tell lines apart, since colours alone do not reach. */
function look(index) {
    const round = Math.floor(index / hues);
    return {
        colour: `var(--c${index % hues})`,
        dashes: ["none", "7 4", "2 4", "10 3 2 3"][round % 4],
        shape: ["circle", "square", "triangle", "diamond"][round % 4],
    };
}

function shapePath(shape, x, y, r) {
    switch (shape) {
        case "square":
            return `M${x - r} ${y - r}h${2 * r}v${2 * r}h${-2 * r}z`;
        case "triangle":
            return `M${x} ${y - 1.25 * r}l${1.25 * r} ${2.2 * r}h${-2.5 * r}z`;
        case "diamond":
            return `M${x} ${y - 1.35 * r}l${1.35 * r} ${1.35 * r}l${-1.35 * r} ${1.35 * r}l${-1.35 * r} ${-1.35 * r}z`;
        default:
            return `M${x - r} ${y}a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0z`;
    }
}

// ---- controls ------------------------------------------------------------------------------------------------------

/** A select above the plot `id`; returns a function that tells the value chosen. One choice needs no select. */
function choice(id, label, values, { text = String, chosen = 0, changed }) {
    const box = document.querySelector(`#${id} .controls`);
    let value = values[chosen];
    if (values.length > 1) {
        const select = html("select", {}, ...values.map((each, i) => html("option", { value: i }, text(each))));
        select.selectedIndex = chosen;
        select.addEventListener("change", () => {
            value = values[select.selectedIndex];
            changed();
        });
        box.append(html("label", {}, label, select));
    }
    return () => value;
}
