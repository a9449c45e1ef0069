internal import Foundation

/// What identifies a patient, as a person writes it.
enum PatientWords {
    /// A name (PN, PS3.5 §6.2.1) of all its component groups: "DOE, JANE M (DR)" of `DOE^JANE^M^DR`.
    static func name(_ text: String) -> String {
        let groups = text.split(separator: "=").map { group($0) }.filter { !$0.isEmpty }
        guard let first = groups.first else { return "" }
        return groups.dropFirst().reduce(first) { "\($0) · \($1)" }
    }

    private static func group(_ text: Substring) -> String {
        let parts = text.split(separator: "^", omittingEmptySubsequences: false).map {
            $0.trimmingCharacters(in: .whitespaces)
        }
        func part(_ index: Int) -> String? {
            parts.indices.contains(index) && !parts[index].isEmpty ? parts[index] : nil
        }
        let given = [part(1), part(2)].compactMap(\.self).joined(separator: " ")
        let name = [part(0) ?? "", given].filter { !$0.isEmpty }.joined(separator: ", ")
        let titles = [part(3), part(4)].compactMap(\.self).joined(separator: ", ")
        return titles.isEmpty ? name : "\(name) (\(titles))"
    }

    /// "73 y", "7 mo" below two years; nil where either date (DA, PS3.5 §6.2) cannot be read.
    static func age(birthDate: String?, on date: String?) -> String? {
        guard let birth = day(birthDate), let date = day(date) else { return nil }
        let months = (date.year - birth.year) * 12 + date.month - birth.month - (date.day < birth.day ? 1 : 0)
        guard (0..<150 * 12).contains(months) else { return nil }
        return months < 24 ? "\(months) mo" : "\(months / 12) y"
    }

    private static func day(_ text: String?) -> (year: Int, month: Int, day: Int)? {
        let digits = text?.filter { $0.isASCII && $0.isNumber } ?? ""
        guard digits.count == 8, let number = Int(digits), (1...12).contains(number / 100 % 100),
            (1...31).contains(number % 100)
        else { return nil }
        return (number / 10000, number / 100 % 100, number % 100)
    }

    /// Patient's Sex (PS3.3 C.7.1.1).
    static func sex(_ text: String?) -> String? {
        switch text {
        case "F": "female"
        case "M": "male"
        case "O": "other"
        default: nil
        }
    }
}
