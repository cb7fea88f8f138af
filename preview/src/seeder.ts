/** The page that shares a file: choose it → it is hashed → its link can be passed on. */

import { Client, type Content } from "../../peer/browser/src/index.ts";
import { copyButton, element, namedMediators, setText, settle } from "./dom.ts";
import { explain } from "./explain.ts";
import * as format from "./format.ts";
import { Foot } from "./foot.ts";
import { connected, showPeers } from "./peers.ts";
import { Status } from "./status.ts";

settle();

const input = element("file-input", HTMLInputElement);
const drop = element("drop", HTMLDivElement);
const hashing = element("progress", HTMLProgressElement);
const shared = element("shared", HTMLElement);
const title = element("shared-title", HTMLHeadingElement);
const meta = element("shared-meta", HTMLParagraphElement);
const link = element("share-link", HTMLAnchorElement);
const dictionary = element("info-dictionary", HTMLTextAreaElement);
const saveDictionary = element("save-dictionary", HTMLAnchorElement);
const peerCount = element("peers", HTMLElement);
const peerList = element("peer-list", HTMLUListElement);
const sent = element("sent", HTMLElement);
const speed = element("speed", HTMLElement);
const status = new Status();

const mediators = namedMediators();
