extension ConsoleServer.Parts {
    /// Routes of the pages about the node itself.
    var aboutTheNode: [ConsoleRoute] {
        guard let facts else { return FiguresPage(parts: self).routes }
        return FiguresPage(parts: self).routes + SystemPage(parts: self, facts: facts).routes
            + ModelPage(facts: facts).routes + ConfigurationPage(facts: facts).routes
    }
}
