// The page's two themes, and how the server's colours are adapted to them.

export const THEMES = {
  light: { paper: "#ffffff", ink: "#222222", grid: "#e3e3e3", faint: "#666666", band: 0.16, lines: 3 },
  dark: { paper: "#1e1e1e", ink: "#eeeeee", grid: "#3a3a3a", faint: "#aaaaaa", band: 0.2, lines: 5 },
};
export const FONT = "Roboto, Helvetica, Arial, sans-serif";
// The contrast that the Web Content Accessibility Guidelines require of small text. They require 3 of
// lines; `lines` above is larger on dark paper, where thin lines are hard to see.
const TEXT_CONTRAST = 4.5;

// A colour, mixed with the theme's ink until a line in it has enough contrast.
export function inked(colour, theme) {
  return colour === "#000000" ? theme.ink : withContrast(colour, theme, theme.lines);
}

// A colour, mixed with the theme's ink until small text in it has enough contrast.
export function readable(colour, theme) {
  return withContrast(colour, theme, TEXT_CONTRAST);
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
