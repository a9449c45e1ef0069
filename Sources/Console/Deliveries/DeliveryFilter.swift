internal import Foundation
internal import Hummingbird
internal import Ledger

/// Which deliveries the page lists.
struct DeliveryFilter: Equatable {
    enum Standing: String, CaseIterable {
        case open, waiting, uncommitted
        case givenUp = "given-up"
        case delivered, withdrawn, all

        var title: String {
            switch self {
            case .open: "not done"
            case .waiting: "waiting, or tried again"
            case .uncommitted: "accepted, not committed"
            case .givenUp: "given up"
            case .delivered: "delivered"
            case .withdrawn: "withdrawn"
            case .all: "all"
            }
        }

        var states: Set<DeliveryState> {
            switch self {
            case .open: DeliveryQuery.openStates
            case .waiting: [.pending]
            case .uncommitted: [.accepted]
            case .givenUp: [.dead]
            case .delivered: [.delivered]
            case .withdrawn: [.superseded, .discarded]
            case .all: []
            }
        }
    }

    /// nil: all.
    var destination: String?
    var standing = Standing.open
    var page = 1

    init(destination: String? = nil, standing: Standing = .open, page: Int = 1) {
        self.destination = destination
        self.standing = standing
        self.page = page
    }

    /// Of the address, or of the form that came from the page.
    init(_ value: (String) -> String?) {
        destination = value("destination").flatMap { $0.isEmpty ? nil : $0 }
        standing = value("state").flatMap(Standing.init) ?? .open
        page = Paging.number(value("page"))
    }

    /// - Parameter told: key of what was done before.
    func path(under start: String = "/deliveries", page: Int? = nil, told: String? = nil) -> String {
        var parts: [String] = []
        if let destination { parts.append("destination=\(Self.encoded(destination))") }
        if standing != .open { parts.append("state=\(standing.rawValue)") }
        if (page ?? self.page) != 1 { parts.append("page=\(page ?? self.page)") }
        if let told { parts.append("told=\(told)") }
        return parts.isEmpty ? start : "\(start)?\(parts.joined(separator: "&"))"
    }

    private static func encoded(_ text: String) -> String {
        text.addingPercentEncoding(withAllowedCharacters: .alphanumerics) ?? ""
    }

    var query: DeliveryQuery {
        DeliveryQuery(
            destination: destination, states: standing.states, limit: Paging.size, offset: Paging.offset(page))
    }

    /// So that after an action the same is shown. Named unlike the fields of the actions.
    var fields: HTML {
        """
        <input type="hidden" name="state" value="\(standing.rawValue)">\
        <input type="hidden" name="page" value="\(page)">\
        <input type="hidden" name="destination" value="\(destination ?? "")">
        """
    }
}
