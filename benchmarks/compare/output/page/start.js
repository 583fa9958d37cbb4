"use strict";
// Errors are counted where anyone can see them, the tests among them; the theme is set before the first paint.
document.documentElement.dataset.errors = "0";
window.addEventListener("error", (event) => {
    const root = document.documentElement;
    root.dataset.errors = String(Number(root.dataset.errors) + 1);
    root.dataset.error = event.message;
});
const darkPreferred = window.matchMedia("(prefers-color-scheme: dark)");
const followPreference = () => {
    const asked = new URLSearchParams(window.location.hash.slice(1)).get("theme");
    const theme = darkPreferred.matches ? "dark" : "light";
    document.documentElement.dataset.theme = asked === "light" || asked === "dark" ? asked : theme;
};
followPreference();
darkPreferred.addEventListener("change", followPreference);
