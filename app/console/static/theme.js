// Before anything is drawn: the theme that the user picked in this browser, if any.
"use strict";
const picked = localStorage.getItem("theme");
if (picked === "light" || picked === "dark") document.documentElement.dataset.theme = picked;
