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

    /** The sentences stand on the first screen, the facts of the machine are folded away. */
    function checkBeginning() {
        const sentences = all("#findings li");
        if (sentences.some((each) => !visible(each)) ||
            document.getElementById("findings").getBoundingClientRect().bottom > window.innerHeight) {
            problem("the findings are not on the first screen");
        }
        const facts = document.getElementById("facts");
        const list = document.getElementById("context");
        if (list.children.length === 0) {
            if (facts.getClientRects().length > 0) {
                problem("facts without any");
            }
            return;
        }
        // what is folded away takes no room
        const height = () => facts.getBoundingClientRect().height;
        const folded = height();
        if (facts.open || folded > 60) {
            problem("the facts are not folded away", folded);
        }
        facts.querySelector("summary").click();
        if (!facts.open || height() < folded + 20 * list.children.length / 2 || !visible(list)) {
            problem("the facts do not unfold");
        }
        checkPlots("facts unfolded");
        facts.querySelector("summary").click();
    }

    function checkToggles() {
        for (const box of all(".toggles").filter((each) => each.querySelector(".chip"))) {
            const id = box.closest("section").id;
            const chips = all(".chip", box).filter((chip) => !chip.hidden);
            const pressed = () => chips.filter((chip) => chip.getAttribute("aria-pressed") === "true");
            const lines = () => all(`#${id} .canvas .series`).length;
            const agree = (state, wanted) => {
                if (pressed().length !== wanted || lines() !== wanted ||
                    !box.querySelector("summary").textContent.startsWith(`${wanted} of ${chips.length} `)) {
                    problem(id, state, ":", pressed().length, "pressed,", lines(), "lines,",
                            box.querySelector("summary").textContent, "for", wanted);
                }
            };
            box.querySelector("details").open = true;
            const few = pressed();
            agree("few", few.length);
            if (few.length < 3 || few.length > 6) {
                problem(id, "shows", few.length, "lines at first");
            }
            for (const chip of chips) {
                const box = chip.getBoundingClientRect();
                if (chip.tagName !== "BUTTON" || box.height < 32 || box.width < 32 || chip.tabIndex !== 0) {
                    problem(id, "a chip that a finger or a key does not reach:", chip.textContent);
                }
            }
            const other = chips.find((chip) => !few.includes(chip));
            other.focus();
            other.click();
            agree("one more", few.length + 1);
            if (document.activeElement !== other) {
                problem(id, "the focus leaves the chip");
            }
            other.click();
            agree("one less", few.length);
            box.querySelector(".all").click();
            agree("all", chips.length);
            checkPlots(`all of ${id}`);
            chips.forEach((chip) => chip.click());
            agree("none", 0);
            if (document.querySelector(`#${id} .canvas`).textContent !== "No strategy is shown.") {
                problem(id, "does not say that nothing is shown");
            }
            box.querySelector(".few").click();
            agree("few again", few.length);
            if (few.some((chip) => !pressed().includes(chip))) {
                problem(id, "shows another few than at first");
            }
            checkPlots(`few of ${id}`);
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
        for (let i = 0; i < 500 && !document.documentElement.dataset.drawn; ++i) {
            await new Promise((resolve) => setTimeout(resolve, 10));
        }
        checkPlots("as opened");
        checkBeginning();
        checkTips();
        checkToggles();
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
