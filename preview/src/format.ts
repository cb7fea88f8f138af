/** Numbers as people read them. */

const units = ["B", "KiB", "MiB", "GiB", "TiB"] as const;

/** "0 B", "812 B", "5.0 MiB", "118 MiB". */
export function bytes(count: number): string {
  let unit = 0;
  while (count >= 999.5 && unit < units.length - 1) {
    count /= 1024;
    unit++;
  }
  return `${unit > 0 && count < 99.95 ? count.toFixed(1) : Math.round(count)} ${units[unit]}`;
}

/** "–" where nothing moves, else "3.1 MiB/s". */
export function speed(bytesPerSecond: number): string {
  return bytesPerSecond < 1 ? "–" : `${bytes(bytesPerSecond)}/s`;
}

/** "4 ms", "1.25 s", "38 s", "5 min 20 s", "2 h 10 min". */
export function duration(milliseconds: number): string {
  if (milliseconds < 999.5) return `${Math.round(milliseconds)} ms`;
  if (milliseconds < 9995) return `${(milliseconds / 1000).toFixed(2)} s`;
  const seconds = Math.round(milliseconds / 1000);
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
  return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
}

/** "7", "1,024". */
export function count(value: number): string {
  return value.toLocaleString("en");
}

/** "1 piece", "12 pieces", "1 person", "2 people". */
export function counted(number: number, one: string, many: string): string {
  return `${count(number)} ${number === 1 ? one : many}`;
}

/** "7", "9,999", "12.3K", "4.5M": never long, whatever a stranger counts. */
export function short(value: number): string {
  return value < 10_000 ? count(value) : value.toLocaleString("en", { notation: "compact", maximumFractionDigits: 1 });
}

/** How often per second: "0", "0.4", "12". */
export function rate(perSecond: number): string {
  if (perSecond < 0.05) return "0";
  return perSecond < 9.95 ? perSecond.toFixed(1) : short(Math.round(perSecond));
}

/** "0 s", "38 s", "5 min 20 s", "2 h 10 min", "12 days". */
export function uptime(seconds: number): string {
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  const days = Math.floor(seconds / 86_400);
  return days < 2 ? duration(1000 * seconds) : counted(days, "day", "days");
}
