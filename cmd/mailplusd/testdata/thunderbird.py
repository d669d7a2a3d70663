#!/usr/bin/env python3
"""Drives Thunderbird through Marionette: thunderbird.py IMAP-PORT USER PASSWORD COUNT.

Makes an IMAP account, waits until COUNT messages are listed, flags one, marks one read, makes a
mailbox, copies a message there on the server, and prints what it saw as JSON.
"""
import json, os, shutil, signal, socket, subprocess, sys, tempfile, time

port, user, password, count = int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])

SCRIPT = """
const [port, user, password, count, done] = arguments;
const { MailServices } = ChromeUtils.importESModule("resource:///modules/MailServices.sys.mjs");
const sleep = ms => new Promise(r => setTimeout(r, ms));
async function until(what, f) {
  for (let i = 0; i < 600; i++) {
    const v = f();
    if (v) return v;
    await sleep(100);
  }
  throw new Error("never: " + what);
}
function listener() {
  let l = {};
  l.promise = new Promise((resolve, reject) => {
    l.OnStartRunningUrl = () => {};
    l.OnStopRunningUrl = (url, code) => code ? reject(new Error("url failed " + code.toString(16))) : resolve();
    l.onStartCopy = () => {};
    l.onProgress = () => {};
    l.setMessageKey = () => {};
    l.getMessageId = () => null;
    l.onStopCopy = code => code ? reject(new Error("copy failed " + code.toString(16))) : resolve();
  });
  l.QueryInterface = ChromeUtils.generateQI(["nsIUrlListener", "nsIMsgCopyServiceListener"]);
  return l;
}
(async () => {
  Services.prefs.setBoolPref("mail.server.default.login_at_startup", false);
  const server = MailServices.accounts.createIncomingServer(user, "127.0.0.1", "imap");
  server.port = port;
  server.socketType = 0;
  server.authMethod = 3;
  server.password = password;
  const identity = MailServices.accounts.createIdentity();
  identity.email = user + "@example.test";
  const account = MailServices.accounts.createAccount();
  account.incomingServer = server;
  account.addIdentity(identity);
  server.performExpand(null);
  const inbox = await until("inbox", () => server.rootFolder.getFolderWithFlags(0x1000));
  let l = listener();
  inbox.QueryInterface(Ci.nsIMsgImapMailFolder).updateFolderWithListener(null, l);
  await l.promise;
  await until("messages", () => inbox.getTotalMessages(false) >= count);
  const messages = () => [...inbox.messages];
  await until("headers", () => messages().length >= count);
  const subjects = messages().map(m => m.mime2DecodedSubject).sort();
  inbox.markMessagesFlagged([messages()[0]], true);
  inbox.markMessagesRead([messages()[1]], true);
  const special = {};
  for (const [name, flag] of [["Sent", 0x200], ["Drafts", 0x400], ["Trash", 0x100], ["Junk", 0x40000000], ["Archive", 0x4000]]) {
    const f = await until(name, () => server.rootFolder.getFolderWithFlags(flag));
    special[name] = f.name;
  }
  server.rootFolder.createSubfolder("From Thunderbird", null);
  const box = await until("new mailbox", () => server.rootFolder.findSubFolder("From Thunderbird"));
  l = listener();
  MailServices.copy.copyMessages(inbox, [messages()[2]], box, false, l, null, false);
  await l.promise;
  await sleep(2000);
  server.closeCachedConnections();
  done({ subjects, special });
})().catch(e => done({ error: String(e) + " " + e.stack }));
"""


class Marionette:
    def __init__(self):
        for _ in range(600):
            try:
                self.s = socket.create_connection(("127.0.0.1", 2828), 2)
                break
            except OSError:
                time.sleep(0.1)
        else:
            sys.exit("Thunderbird does not open its Marionette port")
        self.s.settimeout(180)
        self.buf = b""
        self.n = 0
        self.read()

    def read(self):
        while b":" not in self.buf:
            self.more()
        size, rest = self.buf.split(b":", 1)
        while len(rest) < int(size):
            self.more()
            rest = self.buf.split(b":", 1)[1]
        self.buf = rest[int(size):]
        return json.loads(rest[:int(size)])

    def more(self):
        d = self.s.recv(65536)
        if not d:
            sys.exit("Thunderbird went away")
        self.buf += d

    def call(self, name, params):
        self.n += 1
        m = json.dumps([0, self.n, name, params]).encode()
        self.s.sendall(b"%d:%s" % (len(m), m))
        _, _, err, result = self.read()
        if err:
            sys.exit("%s: %s" % (name, err.get("message")))
        return result


home = tempfile.mkdtemp()
os.mkdir(home + "/p")
# Debian's /usr/lib/thunderbird is full of links, with which the program's own start fails here.
subprocess.run(["cp", "-rL", "/usr/lib/thunderbird", home + "/tb"], stderr=subprocess.DEVNULL)
env = dict(os.environ, HOME=home)
tb = subprocess.Popen(
    ["xvfb-run", "-a", home + "/tb/thunderbird", "--profile", home + "/p", "--marionette", "--remote-allow-system-access"],
    env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
try:
    m = Marionette()
    m.call("WebDriver:NewSession", {})
    m.call("WebDriver:SetTimeouts", {"script": 150000})
    m.call("Marionette:SetContext", {"value": "chrome"})
    out = m.call("WebDriver:ExecuteAsyncScript", {"script": SCRIPT, "args": [port, user, password, count]})
    print(json.dumps(out["value"]))
finally:
    os.killpg(tb.pid, signal.SIGKILL)
    tb.wait()
    shutil.rmtree(home, ignore_errors=True)
