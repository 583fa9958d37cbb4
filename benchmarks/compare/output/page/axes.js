// ---- scales and axes -----------------------------------------------------------------------------------------------

function linearScale(from, to, start, end) {
    const factor = (end - start) / (to - from || 1);
    return (value) => start + (value - from) * factor;
}

function logScale(from, to, start, end) {
    const scale = linearScale(Math.log(from), Math.log(to), start, end);
    return (value) => scale(Math.log(value));
}

/** Multiples of 1, 2 or 5 times a power of ten in [from, to], about `wanted` of them. */
function linearTicks(from, to, wanted = 5) {
    const rough = (to - from) / wanted || 1;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((m) => m * power).find((each) => each >= rough * 0.999);
    const first = Math.ceil(from / step - 1e-9);
    const last = Math.floor(to / step + 1e-9);
    // from whole multiples, so that 0.3 is not 0.30000000000000004
    return Array.from({ length: last - first + 1 }, (_, i) => Number(((first + i) * step).toPrecision(12)));
}

/** 1, 2 and 5 times powers of ten; only the powers where the range is long, and equal steps where it is short. */
function logTicks(from, to) {
    const steps = to / from > 300 ? [1] : [1, 2, 5];
    const ticks = [];
    for (let power = Math.floor(Math.log10(from)); power <= Math.ceil(Math.log10(to)); ++power) {
        ticks.push(...steps.map((m) => Number((m * 10 ** power).toPrecision(12))));
    }
    const inside = ticks.filter((tick) => tick >= from * 0.999 && tick <= to * 1.001);
    return inside.length >= 3 ? inside : linearTicks(from, to, 4);
}

/** Lowest and highest value, and `part` of their distance more on both sides. */
function padded(values, part, scaleIsLog = false) {
    const there = values.filter(known);
    const [low, high] = [Math.min(...there), Math.max(...there)];
    if (scaleIsLog) {
        const factor = Math.max((high / low) ** part, 1.1);
        return [low / factor, high * factor];
    }
    const pad = (high - low) * part || Math.abs(high) * 0.1 || 1;
    return [low - pad, high + pad];
}

/** A logarithmic axis for values that may be 0: four powers of ten below the highest at most. */
function positiveRange(values) {
    const high = Math.max(...values);
    const above = values.filter((value) => value > high * 1e-4);
    const [from, to] = padded(above, 0.06, true);
    return { from, to, clamped: (value) => Math.max(value, from) };
}

/** The y axis of a measure: {low, high, scale, clamped, ticks}; logarithmic where it says so and can be. */
function measureAxis(measure, values) {
    const most = Math.max(...values);
    if (measure.log && most > 0) {
        const { from, to, clamped } = positiveRange(values);
        return { low: from, high: to, scale: logScale, clamped, ticks: logTicks(from, to) };
    }
    const high = most * 1.06 || 1;
    const low = Math.min(0, ...values);
    return { low, high, scale: linearScale, clamped: (value) => value, ticks: linearTicks(low, high) };
}

/** The text of a tick: no more digits than it needs. */
function tickText(value) {
    const size = Math.abs(value);
    if (size >= 1e13 || (size > 0 && size < 1e-4)) {
        return String(Number(value.toPrecision(3)));
    }
    return value.toLocaleString("en", { maximumSignificantDigits: 6, notation: size >= 1e5 ? "compact" : "standard" });
}

/** How wide the widest of these texts is drawn in a plot in `box`. */
function widest(box, texts) {
    const node = svg("text");
    const root = svg("svg", { width: 1, height: 1 }, node);
    box.append(root);
    const width = Math.max(0, ...texts.map((each) => {
        node.textContent = each;
        return node.getComputedTextLength();
    }));
    root.remove();
    return Math.ceil(width);
}

/** An empty plot that fills the width of `box`; the picture of one plot alone fills the window. */
function plotArea(box, label, { height, left = 48, right = 16, top = 30, bottom = 46 }) {
    const width = Math.max(260, Math.floor(box.clientWidth));
    if (document.body.classList.contains("single")) {
        height = Math.max(height, Math.floor(window.innerHeight - box.offsetTop - 24));
    }
    const root = svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", tabindex: "0" });
    root.setAttribute("aria-label", `${label} The figures are in the tables below. Arrow keys go from mark to mark.`);
    box.replaceChildren(root);
    return { root, width, height, left, right: width - right, top, bottom: height - bottom };
}

function text(area, x, y, content, attributes = {}) {
    const node = svg("text", { x, y, ...attributes }, content);
    area.root.append(node);
    return node;
}

/** Leaves out what would touch the one before it. */
function withoutOverlap(nodes, gap, start, end) {
    let reached = -Infinity;
    for (const node of nodes) {
        const box = node.getBBox();
        if (start(box) < reached + gap) {
            node.remove();
        } else {
            reached = end(box);
        }
    }
}

function xAxis(area, scale, ticks, title, format = tickText) {
    area.root.append(svg("line", { class: "axis", x1: area.left, x2: area.right, y1: area.bottom, y2: area.bottom }));
    const nodes = ticks.map((tick) => {
        const x = scale(tick);
        area.root.append(svg("line", { class: "gridline", x1: x, x2: x, y1: area.top, y2: area.bottom }));
        return text(area, x, area.bottom + 18, format(tick), { "text-anchor": "middle", class: "tick" });
    });
    withoutOverlap(nodes, 8, (box) => box.x, (box) => box.x + box.width);
    text(area, area.right, area.bottom + 38, title, { "text-anchor": "end", class: "title" });
}

/** With the title above the axis, where it reads like any other text. */
function yAxis(area, scale, ticks, title, format = tickText) {
    const nodes = ticks.map((tick) => {
        const y = scale(tick);
        area.root.append(svg("line", { class: "gridline", x1: area.left, x2: area.right, y1: y, y2: y }));
        return text(area, area.left - 8, y + 4, format(tick), { "text-anchor": "end", class: "tick" });
    });
    withoutOverlap(nodes, 2, (box) => -box.y - box.height, (box) => -box.y);
    text(area, 0, 12, title, { class: "title" });
}
