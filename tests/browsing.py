"""What tests of pages need of a browser: where it is, how it is started, and the contrast of every text."""

from __future__ import annotations

import shutil
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
]
LEAST_CONTRAST = 4.5  # WCAG 2.2, 1.4.3, level AA
LARGE_TEXT = 3.0  # of 24 px, or of 18.7 px and bold

# Contrast of every text with what lies behind it, as WCAG defines it; texts that nobody sees are left out
CONTRASTS = """() => {
  const channel = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  const luminance = (colour) => {
    const [r, g, b] = colour.slice(0, 3).map((value) => channel(value / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const parse = (text) => { const n = text.match(/[\\d.]+/g).map(Number); return n.length < 4 ? [...n, 1] : n; };
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const colour = parse(getComputedStyle(e).backgroundColor);
      if (colour[3] === 1) return colour;
      if (colour[3] > 0) throw new Error('half transparent background');
    }
    return [255, 255, 255, 1];
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement;
    if (!node.textContent.trim() || element.closest('script, style, title, option')) continue;
    const styles = getComputedStyle(element);
    if (!element.checkVisibility({ visibilityProperty: true }) || element.closest('.skip')) continue;
    const inSvg = element.namespaceURI.endsWith('svg');
    const ink = parse(inSvg ? styles.fill : styles.color);
    const [a, b] = [luminance(ink), luminance(behind(element))].sort((x, y) => y - x);
    const size = parseFloat(styles.fontSize);
    const large = size >= 24 || (size >= 18.66 && Number(styles.fontWeight) >= 700);
    found.push({ text: node.textContent.trim().slice(0, 40), ratio: (a + 0.05) / (b + 0.05), large });
  }
  return found;
}"""


def poor_contrasts(tab: Any) -> list[str]:
    """Texts of a page that do not stand out from what lies behind them, each with its contrast."""
    return [
        f"{each['text']}: {each['ratio']:.2f}"
        for each in tab.evaluate(CONTRASTS)
        if each["ratio"] < (LARGE_TEXT if each["large"] else LEAST_CONTRAST)
    ]
