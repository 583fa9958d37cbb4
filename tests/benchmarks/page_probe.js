// Added to a page by compare_page.cmake: uses everything on it, and reports to the window around it what is wrong.
(async () => {
    const problems = [];
    const done = [];
    const problem = (...words) => problems.push(words.join(" "));
    const all = (selector, root = document) => [...root.querySelectorAll(selector)];
    const visible = (node) => node.getClientRects().length > 0 && node.textContent.trim() !== "";

    function checkPlots(state) {
        const room = document.documentElement;
        if (room.scrollWidth > window.innerWidth) {
            problem(state, "the page is wider than the window:", room.scrollWidth, ">", window.innerWidth);
        }
        for (const plot of all(".canvas > svg")) {
            const frame = plot.getBoundingClientRect();
            const texts = all("text", plot).filter(visible)
                .map((node) => ({ node, box: node.getBoundingClientRect() }));
            for (const { node, box } of texts) {
                if (box.left < frame.left - 1 || box.right > frame.right + 1 || box.top < frame.top - 1 ||
                    box.bottom > frame.bottom + 1) {
                    problem(state, plot.closest("section").id, "text outside:", node.textContent);
                }
            }
            texts.forEach((a, i) => texts.slice(i + 1).forEach((b) => {
                const across = Math.min(a.box.right, b.box.right) - Math.max(a.box.left, b.box.left);
                const down = Math.min(a.box.bottom, b.box.bottom) - Math.max(a.box.top, b.box.top);
                if (across > 1 && down > 3) {  // boxes of lines of text touch, their letters do not
                    problem(state, plot.closest("section").id, `'${a.node.textContent}' over '${b.node.textContent}'`);
                }
            }));
            if (!plot.getAttribute("aria-label")) {
                problem(state, "a plot without a text alternative");
            }
        }
        done.push(state);
    }

    function checkTip(plot, how) {
        const tip = document.getElementById("tip");
        const box = tip.getBoundingClientRect();
        if (tip.hidden || !tip.querySelector("b")?.textContent || all("span", tip).length === 0) {
            problem(plot.closest("section").id, "no tip by", how);
        } else if (box.left < 0 || box.right > window.innerWidth + 1) {
            problem(plot.closest("section").id, "the tip by", how, "leaves the window");
        }
        done.push(`tip by ${how}`);
    }

    function checkTips() {
        for (const plot of all(".canvas > svg")) {
            const marks = all(".mark", plot);
            for (const mark of [marks[0], marks[marks.length - 1]]) {
                const box = mark.getBoundingClientRect();
                const at = { clientX: box.left + box.width / 2, clientY: box.top + box.height / 2, bubbles: true };
                plot.dispatchEvent(new PointerEvent("pointermove", at));
                checkTip(plot, "pointer");
            }
            plot.dispatchEvent(new PointerEvent("pointerleave"));
            plot.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight", bubbles: true }));
            checkTip(plot, "key");
            plot.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape", bubbles: true }));
            if (!document.getElementById("tip").hidden) {
                problem("the tip stays after Escape");
            }
        }
    }

    function checkSelects() {
        for (const select of all(".controls select")) {
            for (let i = select.options.length - 1; i >= 0; --i) {
                select.selectedIndex = i;
                select.dispatchEvent(new Event("change"));
                checkPlots(`${select.parentNode.textContent.slice(0, 8)} ${i}`);
                if (!select.closest("section").querySelector(".canvas .mark, .canvas .empty")) {
                    problem(select.closest("section").id, "draws nothing with option", i);
                }
            }
        }
    }

    function checkSorting() {
        for (const table of all("#tables table")) {
            all("thead th", table).forEach((heading, column) => {
                for (const direction of ["ascending", "descending"]) {
                    heading.querySelector("button").click();
                    const sign = direction === "ascending" ? 1 : -1;
                    const values = all("tbody tr", table).map((row) => Number(row.cells[column].dataset.value));
                    if (heading.getAttribute("aria-sort") !== direction ||
                        values.some((value, i) => i > 0 && sign * (value - values[i - 1]) < 0)) {
                        problem(table.id, "not", direction, "by", heading.dataset.key);
                    }
                }
            });
            done.push(`sorted ${table.id}`);
        }
    }

    function checkTheme() {
        const colour = () => getComputedStyle(document.documentElement).backgroundColor;
        const [theme, before] = [document.documentElement.dataset.theme, colour()];
        document.getElementById("theme").click();
        if (document.documentElement.dataset.theme === theme || colour() === before) {
            problem("the button does not change the theme");
        }
        checkPlots("other theme");
    }

    async function checkAlone() {
        const drawn = all(".canvas > svg").map((plot) => plot.closest("section").id);
        for (const id of drawn) {
            const changed = new Promise((resolve) => window.addEventListener("hashchange", resolve, { once: true }));
            window.location.hash = `plot=${id}`;
            await changed;
            const shown = all("main > *, header").filter((node) => node.getClientRects().length > 0);
            if (shown.length !== 1 || shown[0].id !== id || !shown[0].querySelector(".canvas .mark")) {
                problem("not alone:", id, "but", shown.map((node) => node.id || node.className).join(", "));
            }
            checkPlots(`alone ${id}`);
        }
    }

    try {
        checkPlots("as opened");
        checkTips();
        checkSelects();
        checkSorting();
        checkTheme();
        await checkAlone();
    } catch (error) {
        problem("the probe failed:", error.stack);
    }
    const { errors, error = "" } = document.documentElement.dataset;
    window.parent.postMessage({ width: window.innerWidth, errors, error, problems, done }, "*");
})();
