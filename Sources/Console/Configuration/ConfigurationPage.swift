internal import Hummingbird

/// What the node runs with. For signed-in users of both roles: it names hosts and networks inside the hospital, which
/// an anonymous overview has no need of.
struct ConfigurationPage {
    let facts: any NodeFacts

    var routes: [ConsoleRoute] {
        [
            .get("/configuration", .patients) { [facts] _, context in
                let shown = await facts.configuration()
                return Page(
                    title: "Configuration", area: .configuration, visitor: context.visitor,
                    styles: [SystemStyle.name], content: Self.content(shown)
                ).response()
            }
        ]
    }

    static func content(_ facts: ConfigurationFacts) -> HTML {
        let changed = facts.sections.reduce(0) { $0 + $1.settings.count { !$0.isDefault } }
        return """
            <h1>Configuration</h1>
            \(standing(facts))
            <section class="card" aria-label="File">
            <dl class="facts">
            <dt>File</dt><dd class="mono">\(facts.file)</dd>
            <dt>In force since</dt><dd>\(Words.timeElement(facts.readAt))</dd>
            <dt>SHA-256</dt><dd class="mono">\(facts.digest)</dd>
            <dt>Set otherwise than by default</dt><dd>\(changed) keys, <span class="tag busy">set</span> below</dd>
            </dl>
            </section>
            <p class="soft">Passwords, secrets, tokens and digests are not shown. To change something, edit the file,
            check it with <code>ichnode config check</code>, and have it read with <code>ichnode config reload</code>,
            which says what needs a restart.</p>
            <nav class="sections" aria-label="Sections">
            \(facts.sections.map { "<a href=\"#\($0.path)\">\($0.path)</a>\n" as HTML })</nav>
            \(facts.sections.map(section))
            """
    }

    private static func standing(_ facts: ConfigurationFacts) -> HTML? {
        if let refusal = facts.refusal {
            return """
                <div class="notice error" role="alert">The file was read \(Words.timeElement(refusal.at)) and refused: \
                what is shown here still holds. The next start reads this file: it may fail, or go without what is \
                wrong. Mend the file before.
                <pre>\(refusal.reason)</pre></div>
                """
        }
        let pending = facts.sections.reduce(0) { $0 + $1.settings.count { $0.pending != nil } }
        return switch facts.standing {
        case .unchanged where pending > 0:
            """
            <div class="notice warning" role="status">What is marked <span class="tag busy">at the next start</span> \
            has changed in the file, and counts once the node is restarted.</div>
            """
        case .unchanged: nil
        case .changed:
            """
            <div class="notice warning" role="status">The file has changed since the node read it: what is shown here \
            still holds. <code>ichnode config reload</code> has the node read it.</div>
            """
        case .unreadable(let reason):
            """
            <div class="notice error" role="alert">The file cannot be read now (\(reason)): the node would not start \
            again. Put it back, readable for the node's user.</div>
            """
        }
    }

    private static func section(_ section: ConfigurationFacts.Section) -> HTML {
        guard !section.settings.isEmpty else {
            return """
                <section class="card" id="\(section.path)"><h2 class="mono">\(section.path)</h2>
                <p class="soft">Not configured.</p></section>

                """
        }
        return """
            <section class="card" id="\(section.path)" aria-labelledby="title-\(section.path)">
            <h2 id="title-\(section.path)" class="mono">\(section.path)</h2>
            <table class="stacked settings">
            <thead><tr><th>Key</th><th>Value</th><th>Default</th><th>From</th></tr></thead>
            <tbody>
            \(section.settings.map(row))</tbody>
            </table>
            </section>
            """
    }

    private static func row(_ setting: ConfigurationFacts.Setting) -> HTML {
        let help = setting.help.map { "<details><summary>What it is</summary><p>\($0)</p></details>" as HTML }
        let value: HTML =
            switch setting.value {
            case nil: "<span class=\"soft\">not set</span>"
            case ConfigurationFacts.Setting.hidden?: "<span class=\"tag\">hidden</span>"
            case let value?: "<code>\(value)</code>"
            }
        let pending = setting.pending.map {
            "<br><span class=\"tag busy\">at the next start</span> <code>\($0)</code>" as HTML
        }
        let origin: HTML =
            if let option = setting.option {
                "<code>\(option)</code>"
            } else if let line = setting.line {
                "line \(line)"
            } else {
                "<span class=\"soft\">default</span>"
            }
        let mark: HTML = setting.isDefault ? "" : " <span class=\"tag busy\">set</span>"
        return """
            <tr><td data-label="Key"><span><code>\(setting.key)</code>\(mark)\(help)</span></td>
            <td data-label="Value"><span>\(value)\(pending)</span></td>
            <td data-label="Default">\(setting.defaultValue.map { "<code>\($0)</code>" as HTML } ?? "–")</td>
            <td data-label="From" class="nowrap">\(origin)</td></tr>

            """
    }
}
