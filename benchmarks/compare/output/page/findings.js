// ---- what was found, in three sentences: none says more than the figures do ----------------------------------------

const listed = (names, most = 3) => (names.length <= most
    ? names.join(", ").replace(/, ([^,]*)$/, " and $1")
    : `${names.slice(0, most - 1).join(", ")} and ${names.length - most + 1} more`);
const least = (rows, value) => rows.reduce((a, b) => (value(b) < value(a) ? b : a));
const spreadOf = (row) => row.nll_most - row.nll_least;

/**
 * Whether two trainings can be told apart: every seed of one ends below every seed of the other, and their means differ
 * by more than the seeds of either do. One seed tells nothing of that.
 */
function toldApart(a, b) {
    const [low, high] = a.nll < b.nll ? [a, b] : [b, a];
    return a.seeds > 1 && b.seeds > 1 && low.nll_most < high.nll_least &&
        high.nll - low.nll > Math.max(spreadOf(a), spreadOf(b));
}

const seedsText = (row) => (row.seeds === 1 ? "one seed" : `mean of ${count(row.seeds)} seeds`);
/** Trained mixtures from which text can be generated, the best first. */
const generating = () => learnt.filter((row) => row.causal && !isDense(row.strategy));

function bestLearner() {
    const [best, ...others] = generating();
    if (!best) {
        return "";
    }
    const start = `${best.strategy} learnt best of ${generating().length} causal mixtures: ${nats(best.nll)} nats a ` +
        `byte of held-out text, ${seedsText(best)}`;
    const same = others.filter((row) => !toldApart(best, row)).map((row) => row.strategy);
    if (others.length === 0) {
        return `${start}.`;
    }
    if (same.length > 0) {
        return `${start}, but it is not told apart from ${listed(same)}` +
            (best.seeds > 1 ? ", since the seeds differ by as much." : ", since one seed shows no spread.");
    }
    return `${start}, ${nats(others[0].nll - best.nll)} below the next, ${others[0].strategy}, which is more than the ` +
        "seeds differ.";
}

function bestAgainstDense() {
    const [best] = generating();
    const distance = (row) => Math.abs(Math.log(row.active_parameters / best.active_parameters));
    const dense = best && learnt.filter((row) => isDense(row.strategy) && known(distance(row)));
    if (!dense?.length) {
        return "";
    }
    const rival = least(dense, distance);
    const ratio = rival.active_parameters / best.active_parameters;
    const size = distance(rival) < 0.05 ? "which computes with about as many parameters a byte"
                                        : `which computes with ${times(ratio)} its parameters a byte`;
    const difference = rival.nll - best.nll;
    if (!toldApart(best, rival)) {
        return `Against ${rival.strategy}, ${size}, ${best.strategy} is not told apart: the means differ by ` +
            `${nats(Math.abs(difference))} nats, and ${best.seeds > 1 ? "the seeds by as much" : "one seed shows no spread"}.`;
    }
    const direction = difference > 0 ? "better" : "worse";
    return `${best.strategy} is ${nats(Math.abs(difference))} nats ${direction} than ${rival.strategy}, ${size}: more ` +
        "than the seeds differ.";
}

/** The most and the least even of {name, value}, by the max violation. */
function loadsText(start, rows) {
    const there = rows.filter(({ value }) => known(value));
    if (there.length < 2) {
        return "";
    }
    const [low, high] = [Math.min(...there.map((row) => row.value)), Math.max(...there.map((row) => row.value))];
    // as they are written, so that none is called more even by a difference that no one can see
    const at = (value) => listed(there.filter((row) => figure(row.value) === figure(value)).map((row) => row.name));
    if (figure(low) === figure(high)) {
        return `${start} all load their experts alike: the busiest gets ${times(1 + high)} its even share.`;
    }
    return `${start} the loads of ${at(low)} are the most even, where the busiest expert gets ${times(1 + low)} its even ` +
        `share, and those of ${at(high)} the least, ${times(1 + high)}.`;
}

function loadsTrained() {
    const experts = new Map(loaded.map((row) => [row.strategy, row.load.length]));
    // what computes all experts is even by nature
    const rows = report.trained.filter((row) => !isDense(row.strategy) &&
        !(row.experts_per_token > 0.99 * experts.get(row.strategy)));
    return loadsText("At the end of training", rows.map((row) => ({ name: row.strategy, value: row.max_violation })));
}

function loadsBalance() {
    const input = loads.find((row) => row.layer >= 0)?.input ?? loads[0]?.input;
    const rows = loads.filter((row) => row.input === input && !isDense(row.strategy) &&
        !(row.experts_per_token > 0.99 * row.experts));
    const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length;
    const names = unique(rows.map((row) => row.strategy));
    const layers = rows.some((row) => row.layer >= 0) ? ", mean over its layers," : "";
    return loadsText(`On ${input}${layers}`, names.map((name) => ({
        name, value: mean(rows.filter((row) => row.strategy === name).map((row) => row.max_violation)),
    })));
}

/** The causal strategies that compute no more than the usual one does, or else than half of them do. */
function bestForCompute() {
    const rows = report.quality.filter((row) => row.causal && known(row.nll) && known(row.compute));
    if (rows.length < 2) {
        return "";
    }
    const middle = [...rows].sort((a, b) => a.compute - b.compute)[Math.floor(rows.length / 2)];
    const bound = rows.find((row) => row.strategy === usual) ?? middle;
    const [best, next] = rows.filter((row) => row.compute <= bound.compute * 1.001).sort((a, b) => a.nll - b.nll);
    const all = least(rows, (row) => row.nll);
    const ahead = next ? `, ${nats(next.nll - best.nll)} ahead of ${next.strategy}` : "";
    const rest = all.nll < best.nll
        ? `; ${all.strategy} gains ${nats(best.nll - all.nll)} more with ${times(all.compute / best.compute)} as many experts`
        : "; no causal strategy does better with more";
    return `Of causal strategies that compute no more than ${percent(bound.compute)} of the experts, ${best.strategy} ` +
        `reads the held-out text best, with ${nats(best.nll)} nats a byte${ahead}${rest}.`;
}

function fastest() {
    const shape = speedShapes[0];
    const tokens = Math.max(...report.speed.filter((row) => row.shape === shape).map((row) => row.tokens));
    const rows = report.speed.filter((row) => row.shape === shape && row.tokens === tokens && !row.noisy &&
        !isDense(row.strategy) && row.tokens_per_second > 0).sort((a, b) => b.tokens_per_second - a.tokens_per_second);
    if (rows.length < 2) {
        return "";
    }
    const [first, last] = [rows[0], rows[rows.length - 1]];
    const near = rows.slice(1).filter((row) => row.tokens_per_second > 0.95 * first.tokens_per_second);
    const names = listed(near.map((row) => row.strategy));
    const apartFrom = near.length ? `, not told apart from ${names}, within 5 % of it` : "";
    const share = percent(last.tokens_per_second / first.tokens_per_second);
    const slowest = near.length === rows.length - 1 ? "" : `; ${last.strategy} is the slowest, at ${share} of that`;
    return `With ${tokenCount(tokens)} of ${shape}, ${first.strategy} is the fastest, ${figure(first.tokens_per_second)} ` +
        `tokens a second${apartFrom}${slowest}.`;
}

/** Where a batch takes most of what a mixture gains with the fewest tokens. */
function lostByBatch(rows, few) {
    const alone = new Map(few.map((row) => [row.model, row.speedup_total]));
    const kept = (row) => row.speedup_total / alone.get(row.model);
    const there = rows.filter((row) => row.speedup_total > 0 && alone.has(row.model));
    const row = least(there, kept);
    const start = tokenCount(costTokens[0]);
    return kept(row) > 0.99
        ? `That is so with up to ${tokenCount(costTokens[costTokens.length - 1])} in a batch.`
        : `A batch needs more of the experts, and takes most from ${row.model}: from ${times(alone.get(row.model))} with ` +
          `${start} to ${times(row.speedup_total)} with ${tokenCount(row.tokens)}, which need ` +
          `${count(Number(row.distinct_experts.toPrecision(3)))} of the ${count(row.experts)} experts of a layer.`;
}

/** How many of the models the machine can hold, or how large they are. */
function costRoom(rows, format) {
    const sizes = rows.map((row) => costSizes.get(row.model)?.[`bytes_${format}`]).filter(known);
    const memory = report.cost_machine[0]?.memory_bytes;
    const fitting = rows.filter((row) => row.fits).map((row) => row.model);
    if (sizes.length === 0) {
        return "";
    }
    if (!(memory > 0)) {
        const [low, high] = [Math.min(...sizes), Math.max(...sizes)];
        return `The weights of the ${rows.length} models take ${gigabytes(low)} to ${gigabytes(high)} in ${format}.`;
    }
    const number = fitting.length === 0 ? "None" : String(fitting.length);
    const names = fitting.length ? `: ${listed(fitting)}` : "";
    return `${number} of the ${rows.length} models fit${fitting.length === 1 ? "s" : ""} into the ${gigabytes(memory)} of ` +
        `this machine in ${format}${names}.`;
}

/** Costs of whole models in bfloat16, or in the first format. */
function costFindings() {
    const format = costFormats.includes("bf16") ? "bf16" : costFormats[0];
    const rows = report.cost.filter((row) => row.format === format && row.kind !== "layer");
    const few = rows.filter((row) => row.tokens === costTokens[0] && row.speedup_total > 0)
        .sort((a, b) => a.speedup_total - b.speedup_total);
    if (few.length === 0) {
        return [];
    }
    const [low, high] = [few[0], few[few.length - 1]];
    const gain = `In ${format} with ${tokenCount(costTokens[0])} the limits of this machine let a mixture be ` +
        `${times(low.speedup_total)} (${low.model}) to ${times(high.speedup_total)} (${high.model}) as fast as a dense ` +
        "model of its total size.";
    return [gain, lostByBatch(rows, few), costRoom(few, format)];
}

/** Three sentences, or fewer where less was measured. */
function findings() {
    const found = costs ? costFindings()
        : [bestLearner(), bestAgainstDense(), report.trained.length ? loadsTrained() : "",
           bestForCompute(), loadsBalance(), report.speed.length ? fastest() : ""];
    return found.filter((sentence) => sentence !== "").slice(0, 3);
}
