// The page of a spool: it works without a script, which adds the choice of the theme.

import { startTheme, themeButton } from "./theme.js";

startTheme();
document.getElementById("theme").append(themeButton());
