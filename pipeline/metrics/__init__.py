"""How good detections are: COCO's AP, the counts behind it, intervals, tables and pictures."""
