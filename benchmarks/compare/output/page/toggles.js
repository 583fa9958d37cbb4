// ---- which lines of a plot are shown: a few that matter, and those that the reader chooses ----------------------------

const usual = "top-2";
/** Feed-forward networks without a choice, and mixtures that compute all experts: what others are compared with. */
const isDense = (name) => /^(dense|ffn)/i.test(name);
const atFirst = 6;

/** Of names from the best to the worst: the two best, the usual one, a dense one, the worst; then one between them. */
function fewOf(order) {
    const dense = order.find(isDense);
    const wanted = [order[0], usual, order[order.length - 1], dense, order[1], order[Math.floor(order.length / 2)],
                    order[2]];
    return unique(wanted.filter((name) => order.includes(name))).slice(0, atFirst);
}

/**
 * Looks of the lines shown: a strategy has its own colour unless a line beside it has that, then a free one, which it
 * keeps while it is shown. Only more lines than hues share some.
 */
function keptLooks() {
    const kept = new Map();
    return (names) => {
        [...kept.keys()].filter((name) => !names.includes(name)).forEach((name) => kept.delete(name));
        for (const name of names.filter((each) => !kept.has(each))) {
            const own = strategies.indexOf(name);
            const taken = new Set([...kept.values()].map((each) => each.colour));
            const free = Array.from({ length: hues }, (_, i) => look(own + i).colour).find((colour) => !taken.has(colour));
            kept.set(name, { ...look(own), colour: free ?? look(own).colour });
        }
        return kept;
    };
}

/**
 * Chips below the plot `id`, one for each of `names`. Returns a function that tells which names of `order`, those that
 * can be drawn, from the best to the worst, are shown, as the report orders them, and their looks by name; it is asked
 * each time the plot is drawn.
 */
function toggles(id, names) {
    const looksOf = keptLooks();
    const box = document.querySelector(`#${id} .toggles`);
    let chosen = null;  // by the reader; null: the few
    let drawn = [];
    const again = (next) => {
        chosen = next;
        draw(id);
    };
    const chips = names.map((name, i) => {
        const swatch = html("i", { "aria-hidden": "true" });
        const chip = html("button", { type: "button", class: "chip", "data-name": name }, swatch, name);
        chip.addEventListener("click", () => {
            const next = new Set(chosen ?? drawn);
            next.delete(names[i]) || next.add(names[i]);
            again(next);
        });
        return chip;
    });
    if (names.length > atFirst) {
        const few = html("button", { type: "button", class: "few", "aria-label": "Few strategies" }, "Few");
        const all = html("button", { type: "button", class: "all", "aria-label": "All strategies" }, "All");
        few.addEventListener("click", () => again(null));
        all.addEventListener("click", () => again(new Set(names)));
        const group = html("div", { class: "chips", role: "group", "aria-label": "Strategies shown" }, ...chips);
        const details = html("details", {}, html("summary"), group);
        details.open = window.innerWidth > 640;  // below that they would fill the screen
        box.append(html("div", { class: "quick" }, few, all), details);
    }
    return (order) => {
        drawn = names.filter((name) => order.includes(name) && (chosen ?? new Set(fewOf(order))).has(name));
        const looks = looksOf(drawn);
        chips.forEach((chip, i) => {
            chip.firstChild.style.background = looks.get(names[i])?.colour ?? "";
            chip.hidden = !order.includes(names[i]);
            chip.setAttribute("aria-pressed", String(drawn.includes(names[i])));
        });
        const summary = box.querySelector("summary");
        if (summary) {
            summary.textContent = `${drawn.length} of ${order.length} strategies shown`;
        }
        return { names: drawn, looks };
    };
}
