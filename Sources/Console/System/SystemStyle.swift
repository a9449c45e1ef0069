/// The sheet of the pages about the node itself, and of charts.
enum SystemStyle { static let name = "system.css" }
