// ---- the page ------------------------------------------------------------------------------------------------------

/** What draws the sections, by their ids; those of training are there only where something was trained. */
function drawnHere() {
    if (costs) {
        return { cost: drawCost, batch: drawBatch };
    }
    const trained = {
        ...(learnt.length ? { final: drawFinal } : {}),
        ...(report.training.length ? { learning: drawLearning, behaviour: drawBehaviour } : {}),
        ...(loaded.length ? { history: drawHistory } : {}),
    };
    const others = [["quality", drawQuality, report.quality], ["speed", drawSpeed, report.speed],
                    ["phases", drawPhases, report.speed], ["load", drawLoad, report.balance],
                    ["collapse", drawCollapse, report.collapse]];
    const none = Object.keys(trained).length === 0;
    // a page of training says nothing of what it did not measure; any other one has all of these
    return { ...trained, ...Object.fromEntries(others.filter((each) => none || each[2].length > 0)) };
}

const plots = drawnHere();
for (const section of document.querySelectorAll("section.plot")) {
    if (!(section.id in plots)) {
        section.remove();  // of the other kind of page
    }
}

/** All that could be drawn may have been switched off. */
const emptyText = (id) => (document.querySelector(`#${id} .chip:not([hidden])`) ? "No strategy is shown."
                                                                               : "Nothing was measured for this plot.");

function draw(id) {
    const box = document.querySelector(`#${id} .canvas`);
    if (!plots[id](box)) {
        box.replaceChildren(html("p", { class: "empty" }, emptyText(id)));
    }
}

/** #plot=ID shows one plot alone, for a picture of it. */
function showPlots() {
    const asked = new URLSearchParams(window.location.hash.slice(1)).get("plot");
    const alone = asked in plots;
    document.body.classList.toggle("single", alone);
    for (const id of Object.keys(plots)) {
        const section = document.getElementById(id);
        section.classList.toggle("shown", alone && id === asked);
        if (!alone || id === asked) {
            draw(id);
        }
    }
}

function showSummary() {
    const rows = costs ? report.cost : report.speed;
    const tokens = unique(rows.map((row) => row.tokens)).sort((a, b) => a - b).map(count);
    const number = (list, one, more) => `${list.length} ${list.length === 1 ? one : more}`;
    const parts = [
        costs ? number(report.cost_models, "model", "models") : number(strategies, "strategy", "strategies"),
        ...(!costs && speedShapes.length ? [speedShapes.join(", ")] : []),
        ...(tokens.length ? [`${tokens.join(", ")} tokens`] : []),
        ...report.cost_machine.map((machine) => `${figure(machine.bytes_per_second / 1e9)} GB/s, ` +
            `${figure(machine.flops_per_second / 1e9)} GFLOP/s`),
    ];
    if (costs) {
        document.querySelector("h1").textContent = document.title;
    }
    document.getElementById("summary").textContent = parts.join(" \u00b7 ");
    document.getElementById("context").append(
        ...report.context.flatMap(({ name, value }) => [html("dt", {}, name), html("dd", {}, value)]));
    document.getElementById("facts").hidden = report.context.length === 0;
    document.getElementById("findings").append(...findings().map((sentence) => html("li", {}, sentence)));
}

function followTheme() {
    const button = document.getElementById("theme");
    const root = document.documentElement;
    const name = () => {
        button.textContent = root.dataset.theme === "dark" ? "Light" : "Dark";
        button.setAttribute("aria-label", `Show the page in ${button.textContent.toLowerCase()} colours`);
    };
    button.addEventListener("click", () => (root.dataset.theme = root.dataset.theme === "dark" ? "light" : "dark"));
    new MutationObserver(name).observe(root, { attributeFilter: ["data-theme"] });
    name();
}

showSummary();
followTheme();
showPlots();

let drawnWidth = window.innerWidth;
window.addEventListener("resize", () => {
    // a phone changes the height when its address bar goes away, which is a reason to draw only what fills the window
    if (window.innerWidth !== drawnWidth || document.body.classList.contains("single")) {
        drawnWidth = window.innerWidth;
        hideTip();
        showPlots();
    }
});
window.addEventListener("hashchange", showPlots);
// thousands of rows take longer than all plots, which are shown first
setTimeout(() => {
    drawTables(document.getElementById("tables"));
    document.documentElement.dataset.drawn = "true";
});
