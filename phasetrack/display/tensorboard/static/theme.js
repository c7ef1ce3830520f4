// Colours of the page's two themes, and colours that can be seen on them.

export const THEMES = {
  light: { paper: "#ffffff", ink: "#222222", grid: "#e3e3e3", faint: "#666666", band: 0.16, lines: 3 },
  dark: { paper: "#1e1e1e", ink: "#eeeeee", grid: "#3a3a3a", faint: "#aaaaaa", band: 0.2, lines: 5 },
};
export const FONT = "Roboto, Helvetica, Arial, sans-serif";
export const ALERT = "#D55E00";
// One colour a run where several are shown: Okabe and Ito's, and darker ones of them.
export const RUN_COLOURS = [
  "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9",
  "#004a75", "#8a3d00", "#00664b", "#8f4a72", "#9c6b00", "#2b7fb0",
];
// The contrast that the Web Content Accessibility Guidelines ask of small text; `lines` above is at
// least what they ask of lines, 3, and more where thin lines lie on dark paper (chosen here).
const OF_TEXT = 4.5;

// A colour, mixed with the theme's ink as far as a line needs it to be seen.
export function inked(colour, theme) {
  return colour === "#000000" ? theme.ink : withContrast(colour, theme, theme.lines);
}

// Likewise as far as small text needs it.
export function readable(colour, theme) {
  return withContrast(colour, theme, OF_TEXT);
}

export function faded(colour, share) {
  return `rgba(${parts(colour).join(",")},${share})`;
}

function withContrast(colour, theme, least) {
  const [own, ink] = [parts(colour), parts(theme.ink)];
  for (let share = 0; share <= 1; share += 0.05) {
    const mixed = own.map((part, i) => Math.round(part + (ink[i] - part) * share));
    if (contrast(mixed, parts(theme.paper)) >= least) {
      return `#${mixed.map((part) => part.toString(16).padStart(2, "0")).join("")}`;
    }
  }
  return theme.ink;
}

function contrast(one, other) {
  const [dark, light] = [luminance(one), luminance(other)].sort((a, b) => a - b);
  return (light + 0.05) / (dark + 0.05);
}

function luminance(colour) {
  const [r, g, b] = colour.map((part) => {
    const share = part / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

function parts(colour) {
  return [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
}
