internal import Foundation
public import WorkerProtocol

/// What an administrator should know of the node's key material.
public enum CertificateFindings {
    /// Renewing takes a hospital's CA some days; a month of warning reaches somebody.
    public static let warningDays = 30
    private static let secondsADay: Int64 = 86_400

    public static func report(_ files: TLSFiles, for side: TLSSide) -> CertificateReport {
        do throws(TLSFileProblem) {
            let identity = try TLSIdentity(files, for: side)
            return CertificateReport(
                findings: findings(
                    certificate: identity.certificate, authorities: identity.authorities, files: files,
                    side: side, now: Int64(Date().timeIntervalSince1970)),
                expires: identity.certificate.validTo)
        } catch { return CertificateReport(findings: [.init(.unusable, "\(error)")]) }
    }

    /// - Parameter now: seconds since 1970.
    static func findings(
        certificate: TLSIdentity.Certificate, authorities: [TLSIdentity.Certificate], files: TLSFiles,
        side: TLSSide = .accepting, now: Int64
    ) -> [CertificateReport.Finding] {
        let name = "\(files.section).certificate \(files.certificate)"
        var found = [own(certificate, name, now)]
        if !(side == .accepting ? certificate.mayServe : certificate.mayRequest) {
            let (role, usage) = side == .accepting ? ("servers", "serverAuth") : ("clients", "clientAuth")
            found.append(
                .init(
                    .bad,
                    "\(name) is not made for TLS \(role), and peers refuse it: "
                        + "its extended key usage has to include \(usage)"))
        }
        guard let path = files.authorities else {
            return found + [.init(.good, "peers are not asked for a certificate")]
        }
        let outdated = authorities.filter { $0.validTo < now }
        found += outdated.map { expired in
            .init(
                .warning,
                "\(files.section).ca \(path): issuer \"\(expired.subject)\" has expired, on "
                    + "\(Day.text(expired.validTo)), and its peers are refused: remove or replace it")
        }
        let valid = authorities.count - outdated.count
        found.append(
            valid > 0
                ? .init(.good, "\(files.section).ca \(path) names \(valid) valid \(valid == 1 ? "issuer" : "issuers")")
                : .init(.bad, "\(files.section).ca \(path) names no issuer that is valid: every peer is refused"))
        return found
    }

    private static func own(
        _ certificate: TLSIdentity.Certificate, _ name: String, _ now: Int64
    ) -> CertificateReport.Finding {
        let subject = "\"\(certificate.subject)\""
        if certificate.validTo < now {
            return .init(
                .bad, "\(name) has expired, on \(Day.text(certificate.validTo)), and peers refuse it: renew it")
        }
        if certificate.validFrom > now {
            return .init(
                .bad,
                "\(name) is not valid before \(Day.text(certificate.validFrom)), and peers refuse it: check the clock")
        }
        let days = (certificate.validTo - now) / secondsADay
        if days < warningDays {
            return .init(.warning, "\(name) expires in \(days) days, on \(Day.text(certificate.validTo)): renew it")
        }
        return .init(
            .good, "\(name) \(subject) fits its key and is valid to \(Day.text(certificate.validTo)), \(days) days")
    }
}

/// A day in texts.
enum Day {
    /// - Parameter seconds: since 1970.
    static func text(_ seconds: Int64) -> String {
        let formatter = ISO8601DateFormatter()
        formatter.formatOptions = [.withFullDate]
        return formatter.string(from: Date(timeIntervalSince1970: TimeInterval(seconds)))
    }
}
