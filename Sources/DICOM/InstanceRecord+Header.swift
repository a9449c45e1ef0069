public import WorkerProtocol

extension InstanceRecord {
    /// What a data set's header says. File size, digest, version and AE titles are for the caller to add.
    /// - Throws: `HeaderError` with code `identity` where one of the four identifying UIDs is missing or is none.
    public init(_ reader: HeaderReader, transferSyntax: TransferSyntax) throws(HeaderError) {
        let values = reader.values
        self.init(
            sopClassUID: try Self.uid(values, .sopClassUID, "SOP Class UID"),
            sopInstanceUID: try Self.uid(values, .sopInstanceUID, "SOP Instance UID"),
            studyInstanceUID: try Self.uid(values, .studyInstanceUID, "Study Instance UID"),
            seriesInstanceUID: try Self.uid(values, .seriesInstanceUID, "Series Instance UID"),
            transferSyntaxUID: transferSyntax.uid)
        patient = PatientIdentity(
            name: values.text(.patientName), id: values.text(.patientID), issuerOfID: values.text(.issuerOfPatientID),
            birthDate: values.code(.patientBirthDate), sex: values.code(.patientSex))
        study = StudyAttributes(values)
        series = SeriesAttributes(values)
        image = ImageAttributes(values, hasPixelData: reader.hasPixelData)
        takeFrames(reader)
    }

    private static func uid(_ values: HeaderValues, _ tag: Tag, _ name: String) throws(HeaderError) -> UID {
        guard let text = values.code(tag) else { throw HeaderError(.identity, "no \(name) in the data set") }
        guard let uid = UID(text) else { throw HeaderError(.identity, "\(name) in the data set is no UID") }
        return uid
    }
}

extension StudyAttributes {
    fileprivate init(_ values: HeaderValues) {
        self.init()
        date = values.code(.studyDate)
        time = values.code(.studyTime)
        accessionNumber = values.text(.accessionNumber)
        description = values.text(.studyDescription)
        timezoneOffset = values.code(.timezoneOffset)
        institutionName = values.text(.institutionName)
    }
}

extension SeriesAttributes {
    fileprivate init(_ values: HeaderValues) {
        self.init()
        modality = values.code(.modality)
        number = values.integer(.seriesNumber)
        description = values.text(.seriesDescription)
        protocolName = values.text(.protocolName)
        bodyPartExamined = values.code(.bodyPartExamined)
        manufacturer = values.text(.manufacturer)
        manufacturerModelName = values.text(.manufacturerModelName)
        stationName = values.text(.stationName)
        convolutionKernel = values.text(.convolutionKernel)
        contrastBolusAgent = values.text(.contrastBolusAgent)
        frameOfReferenceUID = values.code(.frameOfReferenceUID).flatMap { UID($0) }
        imagesInAcquisition = values.integer(.imagesInAcquisition)
    }
}

extension ImageAttributes {
    fileprivate init(_ values: HeaderValues, hasPixelData: Bool) {
        self.init()
        instanceNumber = values.integer(.instanceNumber)
        acquisitionNumber = values.integer(.acquisitionNumber)
        acquisitionDateTime = values.code(.acquisitionDateTime) ?? Self.dateTime(values)
        imageType = values.codes(.imageType)
        position = values.decimals(.imagePosition, count: 3)
        orientation = values.decimals(.imageOrientation, count: 6)
        pixelSpacing = values.decimals(.pixelSpacing, count: 2)
        sliceThickness = values.decimal(.sliceThickness)
        spacingBetweenSlices = values.decimal(.spacingBetweenSlices)
        gantryTilt = values.decimal(.gantryTilt)
        rows = values.unsignedShort(.rows)
        columns = values.unsignedShort(.columns)
        samplesPerPixel = values.unsignedShort(.samplesPerPixel)
        photometricInterpretation = values.code(.photometricInterpretation)
        bitsAllocated = values.unsignedShort(.bitsAllocated)
        bitsStored = values.unsignedShort(.bitsStored)
        numberOfFrames = values.integer(.numberOfFrames)
        rescaleIntercept = values.decimal(.rescaleIntercept)
        rescaleSlope = values.decimal(.rescaleSlope)
        self.hasPixelData = hasPixelData
    }

    /// Acquisition Date and Time where there is no Acquisition DateTime.
    private static func dateTime(_ values: HeaderValues) -> String? {
        guard let date = values.code(.acquisitionDate), let time = values.code(.acquisitionTime) else { return nil }
        return date + time
    }
}
