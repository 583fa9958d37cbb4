// ---- lines with their names at the right end -----------------------------------------------------------------------

/**
 * Draws series {name, look, points: [{x, y, title, lines, hollow, quiet}], enters} and their names into the margin on the
 * right, each joined to the end of its line. A line that comes into the plot from above begins at `enters` {x, y}.
 * Returns the marks.
 */
function drawSeries(area, series) {
    const marks = [];
    const ends = series.map((each) => each.points[each.points.length - 1]);
    const heights = spread(ends.map((end) => end.y), 14, area.top, area.bottom);
    series.forEach((each, i) => {
        const { colour, dashes, shape } = each.look;
        const group = svg("g", { class: "series" });
        const all = each.enters ? [each.enters, ...each.points] : each.points;
        const path = `M${all.map((point) => `${point.x} ${point.y}`).join("L")}`;
        group.append(svg("path", { class: "line", d: path, stroke: colour, "stroke-dasharray": dashes }));
        area.root.append(group);
        for (const point of each.points) {
            const node = svg("path", {
                d: shapePath(shape, point.x, point.y, 3.5), stroke: colour, "stroke-width": 1.5,
                fill: point.hollow ? "var(--surface)" : colour, ...(point.quiet ? { class: "quiet" } : {}),
            });
            group.append(node);
            marks.push({ node, x: point.x, y: point.y, title: point.title, lines: point.lines, series: group });
        }
        const [from, to] = [ends[i], heights[i]];
        const turn = area.right + 8;
        const joint = `M${from.x + 5} ${from.y}L${turn} ${from.y}L${turn + 10} ${to}`;
        group.append(svg("path", { class: "leader", d: joint }));
        const fill = each.points.every((point) => point.hollow) ? "var(--surface)" : colour;
        group.append(svg("path", { d: shapePath(shape, turn + 16, to, 3.5), fill, stroke: colour, "stroke-width": 1.5 }));
        const name = svg("text", { class: "name", x: turn + 24, y: to + 4 });
        group.append(name);
        fitted(name, each.name, area.width - turn - 24);
    });
    return marks;
}

/** Room for these names and what joins them to their lines: not more than 45 % of the plot. */
function nameMargin(box, names) {
    return Math.min(widest(box, names) + 36, Math.max(260, box.clientWidth) * 0.45);
}
