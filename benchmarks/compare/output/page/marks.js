// ---- marks: what the pointer, a finger or the arrow keys can ask for its values -------------------------------------

const tip = document.getElementById("tip");
let hideTip = () => {};

function showTip(root, mark) {
    hideTip();
    tip.replaceChildren(html("b", {}, mark.title),
                        ...mark.lines.map(([name, value]) => html("span", {}, html("em", {}, name), value)));
    tip.hidden = false;
    mark.node.classList.add("on");
    if (mark.series) {
        root.classList.add("singled");
        mark.series.classList.add("on");
    }
    const plot = root.getBoundingClientRect();
    const own = tip.getBoundingClientRect();
    const x = plot.left + mark.x + mark.width / 2;
    const above = plot.top + mark.y - own.height - 14;
    const y = above > 4 ? above : plot.top + mark.y + mark.height + 14;
    const room = document.documentElement.clientWidth - own.width - 8;
    tip.style.left = `${window.scrollX + Math.max(8, Math.min(x - own.width / 2, room))}px`;
    tip.style.top = `${window.scrollY + y}px`;
    hideTip = () => {
        tip.hidden = true;
        mark.node.classList.remove("on");
        root.classList.remove("singled");
        mark.series?.classList.remove("on");
        hideTip = () => {};
    };
}

/** The mark nearest to a place within a finger's width, or none. */
function nearest(marks, x, y) {
    let best = null;
    let least = 26;
    for (const mark of marks) {
        const dx = Math.max(mark.x - x, 0, x - mark.x - mark.width);
        const dy = Math.max(mark.y - y, 0, y - mark.y - mark.height);
        const distance = Math.hypot(dx, dy);
        if (distance < least) {
            [best, least] = [mark, distance];
        }
    }
    return best;
}

/**
 * Lets `marks` of a plot be asked: {node, x, y, width, height, title, lines: [[name, value]], series}. `node` is what
 * is drawn, `series` the group it belongs to, which is singled out with it.
 */
function makeMarks(root, marks) {
    for (const mark of marks) {
        mark.node.classList.add("mark");
        mark.width ??= 0;
        mark.height ??= 0;
    }
    const at = (event) => {
        const box = root.getBoundingClientRect();
        const mark = nearest(marks, event.clientX - box.left, event.clientY - box.top);
        if (mark) {
            showTip(root, mark);
        } else {
            hideTip();
        }
    };
    root.addEventListener("pointermove", at);
    root.addEventListener("pointerdown", at);
    // a finger that is lifted leaves the plot, and the tip it asked for stays
    root.addEventListener("pointerleave", (event) => event.pointerType !== "touch" && hideTip());
    let current = -1;
    root.addEventListener("keydown", (event) => {
        const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
        if (step && marks.length > 0) {
            current = current < 0 ? (step > 0 ? 0 : marks.length - 1) : (current + step + marks.length) % marks.length;
            showTip(root, marks[current]);
            event.preventDefault();
        } else if (event.key === "Escape") {
            hideTip();
        }
    });
    root.addEventListener("blur", () => hideTip());
}

document.addEventListener("pointerdown", (event) => event.target.closest("svg") ?? hideTip());
