/**
 * What a site owner calls: name the files, say where they belong on the page, and they
 * come from other visitors. README.md has the examples.
 */

import { CdnError, type ClientOptions, type Content } from "./api.ts";
import { Client } from "./client.ts";
import { type InfoDictionary, parseInfo, toDictionary } from "./content.ts";

/** One text, or several. */
export type Texts = string | readonly string[];

/** What the functions need of a page, and what they share. index.ts makes the one of the page. */
export class Site {
  readonly #page: Document | null; // null where there is no document (a worker)
  readonly #newClient: (options: ClientOptions) => Client;
  #client: Client | null = null; // of the latest initialize
  #files = new Map<string, InfoDictionary>(); // by file name
  #urls: string[] = []; // object URLs that were made, freed with the client
  #iceServers: readonly RTCIceServer[] | null = null;

  constructor(page: Document | null, newClient: (options: ClientOptions) => Client) {
    this.#page = page;
    this.#newClient = newClient;
  }

  /**
   * Names the files that the page may use, and the mediators. Nothing is downloaded
   * before somebody asks for it. Calling it again begins anew: what was there is left.
   *
   * @param infoDictionaries objects, or their JSON; each with a file_name of its own
   * @param mediators WebSocket URLs; none: see defaultMediators in client.ts
   * @throws ContentError for a malformed dictionary, CdnError "duplicate_name"
   */
  readonly initialize = (
    infoDictionaries: readonly (InfoDictionary | string)[] = [],
    mediators: Texts = [],
    options: ClientOptions = {},
  ): Client => {
    const files = new Map<string, InfoDictionary>();
    for (const source of infoDictionaries) {
      const info = parseInfo(typeof source === "string" ? source : JSON.stringify(source));
      if (files.has(info.fileName)) {
        throw new CdnError("duplicate_name", `two info dictionaries have the file name "${info.fileName}"`);
      }
      files.set(info.fileName, toDictionary(info));
    }
    void this.#client?.close();
    for (const url of this.#urls.splice(0)) URL.revokeObjectURL(url);
    this.#files = files;
    const named = list(mediators);
    this.#client = this.#newClient({
      ...(named.length > 0 && { mediators: named }),
      ...(this.#iceServers !== null && { iceServers: this.#iceServers }),
      ...options,
    });
    return this.#client;
  };

  /**
   * Seeds a file that the visitor chose, while the page lives. Resolves, once it is
   * hashed, to the info dictionary that others need. Rejects with a CdnError.
   *
   * @param progress called with the bytes hashed so far and the bytes of the file
   */
  readonly seedFile = async (
    file: Blob,
    progress?: (hashed: number, total: number) => void,
  ): Promise<InfoDictionary> => {
    const content = this.#ensure().seed(file);
    if (progress !== undefined) {
      content.on("progress", ({ bytes, total }) => {
        if (content.state === "hashing") progress(bytes, total);
      });
    }
    const info = await content.ready;
    progress?.(info.total_length, info.total_length);
    return info;
  };

  /**
   * Shows files in images: when the file at a place of fileNames has arrived, every
   * element that the selector at the same place matches gets it as its src.
   *
   * @throws CdnError "unknown_file" for a name that no dictionary has, RangeError where
   * the lists differ in length
   */
  readonly includeImages = (fileNames: Texts, selectors: Texts): void => {
    this.#include(fileNames, selectors, (element, blob) => {
      (element as HTMLImageElement).src = this.#url(blob);
    });
  };

  /**
   * Offers files for download: when the file at a place of fileNames has arrived, every
   * anchor that the selector at the same place matches gets its href and download.
   *
   * @throws as includeImages
   */
  readonly includeDownloads = (fileNames: Texts, selectors: Texts): void => {
    this.#include(fileNames, selectors, (element, blob, info) => {
      const anchor = element as HTMLAnchorElement;
      // Of a type that no browser opens: the file is saved, whatever it is.
      anchor.href = this.#url(blob.slice(0, blob.size, "application/octet-stream"));
      anchor.download = info.file_name;
    });
  };

  /**
   * Downloads the file and calls fn with it and its dictionary. Where it cannot be
   * downloaded fn is never called; the content's events say why.
   *
   * @throws CdnError "unknown_file" for a name that no dictionary has
   */
  readonly onFileDownloaded = (name: string, fn: (file: Blob, info: InfoDictionary) => void): Content => {
    const info = this.#files.get(name);
    if (info === undefined) throw new CdnError("unknown_file", `no info dictionary has the file name "${name}"`);
    const content = this.#ensure().get(info);
    content.done.then(
      (blob) => fn(blob, content.info ?? info), // what it throws is an unhandled rejection, for the console
      () => {},
    );
    return content;
  };

  /** The ICE servers to use, before or after initialize, in place of those that the mediator names; []: none. */
  readonly overrideICECandidates = (servers: readonly RTCIceServer[]): void => {
    this.#iceServers = servers;
    this.#client?.overrideICEServers(servers);
  };

  /** Leaves everything, when the page goes. */
  readonly close = (): void => {
    void this.#client?.close();
  };

  #ensure(): Client {
    return this.#client ?? this.initialize();
  }

  #include(
    fileNames: Texts,
    selectors: Texts,
    put: (element: Element, blob: Blob, info: InfoDictionary) => void,
  ): void {
    const [names, places] = [list(fileNames), list(selectors)];
    if (names.length !== places.length) {
      throw new RangeError(`${names.length} file names, but ${places.length} selectors`);
    }
    names.forEach((name, i) => {
      this.onFileDownloaded(name, (blob, info) => {
        this.#whenParsed((page) => {
          for (const element of page.querySelectorAll(places[i] as string)) put(element, blob, info);
        });
      });
    });
  }

  /** A file may be there before the page is: elements further down do not exist yet. */
  #whenParsed(fn: (page: Document) => void): void {
    const page = this.#page;
    if (page === null) return;
    if (page.readyState === "loading") page.addEventListener("DOMContentLoaded", () => fn(page), { once: true });
    else fn(page);
  }

  #url(blob: Blob): string {
    const url = URL.createObjectURL(blob);
    this.#urls.push(url);
    return url;
  }
}

function list(texts: Texts): readonly string[] {
  return typeof texts === "string" ? [texts] : texts;
}

/** The page's own Site, which leaves with the page. */
export function pageSite(): Site {
  const page = typeof document === "object" ? document : null;
  const site = new Site(page, (options) => new Client(options));
  // The channels close with a word, so that peers need not wait for a timeout.
  // A page that the browser only sets aside may come back.
  if (typeof addEventListener === "function") {
    addEventListener("pagehide", ({ persisted }) => {
      if (!persisted) site.close();
    });
  }
  return site;
}
