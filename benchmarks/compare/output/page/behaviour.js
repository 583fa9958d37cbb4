// ---- behaviour of the router as training goes on -------------------------------------------------------------------

/** `worst`: whether the higher (1, if not said) or the lower value (-1) is the worse, by which the few are chosen. */
const behaviours = [
    { name: "max violation", value: (row) => row.max_violation,
      title: "largest load over the mean, less 1" },
    { name: "router entropy", value: (row) => row.entropy,
      title: "entropy of a token's probabilities, 1 is even", worst: -1 },
    { name: "dead experts", value: (row) => row.dead, title: "experts of a layer without tokens" },
    { name: "dropped choices", value: (row) => 100 * row.dropped, title: "dropped, % of the choices" },
    { name: "router gradient over that of experts", value: (row) => row.router_norm / row.expert_norm,
      title: "norm of gradients, routers over experts", log: true, worst: -1 },
    { name: "router gradient", value: (row) => row.router_norm,
      title: "norm of the gradients of all routers", log: true, worst: -1 },
    { name: "expert gradient", value: (row) => row.expert_norm,
      title: "norm of the gradients of all experts", log: true },
].filter(({ value }) => report.training.some((row) => value(row) > 0));
const behaviourMeasure = choice("behaviour", "Show", behaviours, {
    changed: () => draw("behaviour"), text: (measure) => measure.name,
});
const behaviourShown = toggles("behaviour", trainedNames);

function drawBehaviour(box) {
    const measure = behaviourMeasure();
    if (!measure) {
        return false;
    }
    const curves = new Map(trainedNames.map((name) => [name, curve(name, (row) => row.step, measure.value)]));
    const order = ranked(curves, measure.worst ?? 1);
    const { names, looks } = behaviourShown(order);
    if (names.length === 0) {
        return false;
    }
    const shown = names.map((name) => curves.get(name));
    const ends = names.map((name, i) => `${name} ends at ${figure(shown[i][shown[i].length - 1].value)}`);
    const label = `${measure.title} by step of training, ${names.length} of ${order.length} strategies. ` +
        `${ends.join("; ")}.`;
    const axis = measureAxis(measure, shown.flat().map((point) => point.value));
    const height = Math.max(330, names.length * 14 + 110);
    const left = widest(box, axis.ticks.map(tickText)) + 14;
    const area = plotArea(box, label, { height, left, right: nameMargin(box, names) });
    const most = Math.max(1, ...shown.flat().map((point) => point.step));
    const x = linearScale(0, most, area.left, area.right - 4);
    const y = axis.scale(axis.low, axis.high, area.bottom, area.top);
    xAxis(area, x, linearTicks(0, most, area.width < 500 ? 3 : 6).filter(Number.isInteger), "step");
    yAxis(area, y, axis.ticks, measure.title);
    const series = names.map((name, i) => ({
        name, look: looks.get(name),
        points: thinned(shown[i].map((point) => ({
            x: x(point.step), y: y(axis.clamped(point.value)), hollow: notCausal.has(name),
            title: `${name}, step ${count(point.step)}`,
            lines: [[measure.name, figure(point.value)], ...seedLines(point, figure),
                    ...(notCausal.has(name) ? [["", "not causal"]] : [])],
        }))),
    }));
    makeMarks(area.root, drawSeries(area, series));
    return true;
}
