/* Curves by uPlot: zoom by dragging, back by a double click, values under the pointer, linked x. */

const SERIES = [1, 4, 3, 5, 6, 7, 8, 2];
const seriesColor = (number) => color(`series-${SERIES[number % SERIES.length]}`);

function axis(label, size) {
  return {
    label,
    size,
    labelSize: 18,
    labelFont: "12px system-ui, sans-serif",
    font: "11px system-ui, sans-serif",
    gap: 3,
    stroke: color("ink-soft"),
    grid: { stroke: color("grid"), width: 1 },
    ticks: { stroke: color("grid"), width: 1, size: 4 },
    values: (_, values) => values.map((value) => (value === null ? "" : brief(value))),
  };
}

/** Draws a block of curves: {title, x: {label, values}, y: {label, log}, series: [{name, values, dash}], sync}. */
function drawCurves(host, about) {
  let plot = null;
  const draw = () => {
    const zoomed = plot ? { min: plot.scales.x.min, max: plot.scales.x.max } : null;
    plot?.destroy();
    const data = [about.x.values, ...about.series.map((one) => one.values)];
    plot = new uPlot({
      width: host.clientWidth,
      height: about.height ?? 260,
      cursor: { sync: about.sync ? { key: about.sync, setSeries: false } : undefined, points: { size: 7 } },
      legend: { live: true },
      scales: { x: { time: false }, y: about.y.log ? { distr: 3 } : { range: about.y.range } },
      axes: [axis(about.x.label, 26), axis(about.y.label, 48)],
      series: [
        { label: about.x.label, value: (_, value) => brief(value) },
        ...about.series.map((one, number) => ({
          label: one.name,
          stroke: one.color ? color(one.color) : seriesColor(number),
          width: one.width ?? 1.8,
          dash: one.dash ? [5, 4] : undefined,
          spanGaps: true,
          points: { show: !one.dash && one.values.filter((value) => value !== null).length <= 40, size: 5 },
          value: (_, value) => brief(value),
        })),
      ],
    }, data, host);
    if (zoomed) plot.setScale("x", zoomed);
  };
  keepDrawn(host, draw);
}
