// ---- learning: loss by what it costs -------------------------------------------------------------------------------

const learningRedraw = { changed: () => draw("learning"), text: (each) => each.name };
const learningLoss = choice("learning", "Loss", [
    { key: "nll", name: "held-out text" }, { key: "loss", name: "text to learn from" },
], learningRedraw);
const learningAcross = choice("learning", "By", [
    { name: "steps", value: (row) => row.step, title: "steps" },
    { name: "operations", value: (row) => row.operations / 1e9, title: "operations, 10\u2079" },
    { name: "seconds", value: (row) => row.seconds, title: "seconds" },
], learningRedraw);
const learningShown = toggles("learning", trainedNames);

/** The beginnings of lines, up to a third of the steps, may lie above the plot: how far up it reaches. */
function learningTop(curves) {
    const last = Math.max(...curves.map((points) => points[points.length - 1].step));
    const late = curves.flatMap((points) => points.filter((point) => point.step >= last / 3));
    return padded(late.map((point) => point.value), 0.08)[1];
}

/** The points after the last one above `top`, and where the line from that one comes into the plot. */
function belowTop(points, top) {
    const above = points.findLastIndex((point) => point.value > top);
    const [from, to] = [points[above], points[above + 1]];
    if (!from || !to) {
        return { points: from ? [] : points };
    }
    const part = (from.value - top) / (from.value - to.value);
    return { points: points.slice(above + 1), enters: from.across + part * (to.across - from.across) };
}

function learningSeries(name, style, points, top, x, y) {
    const below = belowTop(points, top);
    return {
        name, look: style, enters: below.enters && { x: x(below.enters), y: y(top) },
        points: thinned(below.points.map((point) => ({
            x: x(point.across), y: y(point.value), hollow: notCausal.has(name),
            title: `${name}, step ${count(point.step)}`,
            lines: [[learningLoss().name, `${nats(point.value)} nats a byte`], ...seedLines(point, nats),
                    [learningAcross().title, count(Number(point.across.toPrecision(4)))],
                    ...(notCausal.has(name) ? [["", "not causal"]] : [])],
        }))),
    };
}

function drawLearning(box) {
    const [loss, across] = [learningLoss(), learningAcross()];
    const curves = new Map(trainedNames.map((name) => [name, curve(name, across.value, (row) => row[loss.key])]));
    const order = ranked(curves);
    const { names, looks } = learningShown(order);
    if (names.length === 0) {
        return false;
    }
    const shown = names.map((name) => curves.get(name));
    const best = ranked(new Map(names.map((name) => [name, curves.get(name)])))[0];
    const end = curves.get(best)[curves.get(best).length - 1];
    const label = `Nats a byte of ${loss.name} by ${across.name} of training, ${names.length} of ${order.length} ` +
        `strategies. Of these ${best} ends lowest, at ${nats(end.value)}.`;
    const top = learningTop(shown);
    const low = padded(shown.flat().map((point) => point.value).filter((value) => value <= top).concat(top), 0.05)[0];
    const ticks = linearTicks(low, top);
    const right = nameMargin(box, names);
    const height = Math.max(360, names.length * 14 + 110);
    const area = plotArea(box, label, { height, left: widest(box, ticks.map(tickText)) + 14, right });
    const most = Math.max(...shown.flat().map((point) => point.across));
    const x = linearScale(0, most || 1, area.left, area.right - 4);
    const y = linearScale(low, top, area.bottom, area.top);
    xAxis(area, x, linearTicks(0, most || 1, area.width < 500 ? 3 : 6), across.title);
    yAxis(area, y, ticks, `nats a byte of ${loss.name}`);
    const series = names.map((name) => learningSeries(name, looks.get(name), curves.get(name), top, x, y));
    makeMarks(area.root, drawSeries(area, series.filter((each) => each.points.length > 0)));
    return true;
}
